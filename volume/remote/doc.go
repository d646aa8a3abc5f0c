// Package remote carries volume/api.Files across a connection: Client is the
// mount's side, Server the node's.
package remote
