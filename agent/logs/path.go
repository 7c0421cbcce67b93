// Package logs looks after the files that the runtime writes containers'
// output to: where they lie, when they are rotated, and what their last
// lines say. The runtime alone writes the current file; this package renames
// it and asks the runtime to open a new one, and never copies or cuts a file
// that is being written.
//
//	ROOT/logs/<namespace>_<name>_<uid>/<container>/<attempt>.log
//	                                              <attempt>.log.<time>      the one before
//	                                              <attempt>.log.<time>.gz   older ones
package logs

import (
	"path/filepath"
	"strconv"
)

// Dir is the folder of a pod's logs.
func Dir(root string, namespace, name, uid string) string {
	return filepath.Join(root, "logs", namespace+"_"+name+"_"+uid)
}

// File is the log of one attempt of a container, relative to Dir.
func File(container string, attempt uint32) string {
	return filepath.Join(container, strconv.FormatUint(uint64(attempt), 10)+".log")
}
