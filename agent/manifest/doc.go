// Package manifest turns a directory of YAML and JSON files into pods, with a
// verdict per file in words for the operator: file, line, field, reason. A file
// is taken as a whole or refused as a whole.
//
// It never decides what a pod may hold (the caller's check does), never keeps
// anything on disk and never prunes: a Snapshot says what lies there and whether
// the directory can be trusted to be complete. Directory.Run watches by inotify
// and looks slowly besides; Parse and Resolve are pure.
package manifest
