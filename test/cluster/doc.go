// Package cluster runs real servers as if each were a machine of its own: every node
// has a network, a host name, a machine and boot id, and at the same path other drives
// (namespaces(7)), and can be killed, paused, cut off and slowed down.
//
//	node1          node2          client            namespaces: net, mnt, uts
//	 |tun           |tun           |tun             tun(4), 10.77.0.n
//	 +-------- switch (this process) --------+      drops and delays by direction
//
// The switch is in this process, and not a bridge with tc-netem(8): not every kernel
// has the modules for that, a packet that is dropped here is dropped without a sound
// (no carrier that goes, no error to the sender), by direction, and what passed can be
// counted. The price is two copies of each packet.
//
// A node lives as long as its shell (launcher), which reads this process's commands. When
// this process ends, however it does, the shell reads the end of its input and kills all that
// is in its network; with the last process the namespaces go, and mounts in them. Processes have the ids
// of the machine (there is no PID namespace), so that tests can signal them.
//
// It takes root, and skips the tests without.
package cluster
