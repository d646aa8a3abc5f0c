// Package s3err has the errors of the S3 API: code, HTTP status and message, as
// https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html lists them.
package s3err

import (
	"errors"
	"net/http"
)

// Code is an S3 error code, as it stands in the XML.
type Code string

// Error is an error of the S3 API, ready to be answered.
type Error struct {
	Code    Code
	Message string  // empty: the code's own
	Fields  []Field // further elements of the XML, in order
	Err     error   // the cause, for the log alone; may be nil
}

// Field is an element of an error's XML.
type Field struct{ Name, Value string }

// New makes an error with the code's own message.
func New(c Code) *Error { return &Error{Code: c} }

// Msg makes an error with a message of its own.
func Msg(c Code, msg string, fields ...Field) *Error {
	return &Error{Code: c, Message: msg, Fields: fields}
}

// Arg is an InvalidArgument about one argument.
func Arg(name, value, msg string) *Error {
	return Msg(InvalidArgument, msg, Field{"ArgumentName", name}, Field{"ArgumentValue", value})
}

// Wrap makes an error with a cause for the log.
func Wrap(c Code, err error) *Error { return &Error{Code: c, Err: err} }

// As finds an *Error in err's chain, or returns nil.
func As(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return nil
}

func (e *Error) Error() string {
	s := string(e.Code) + ": " + e.Text()
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// Text is the message that the client gets.
func (e *Error) Text() string {
	if e.Message != "" {
		return e.Message
	}
	_, msg := describe(e.Code)
	return msg
}

// Status is the HTTP status.
func (e *Error) Status() int {
	status, _ := describe(e.Code)
	if status == 0 {
		return http.StatusInternalServerError
	}
	return status
}
