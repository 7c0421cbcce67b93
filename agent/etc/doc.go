// Package etc makes the text of the files below /etc that every container of
// a pod gets: its host name, /etc/hosts and /etc/resolv.conf. It is pure: the
// node's own files come in as arguments and nothing is written.
package etc
