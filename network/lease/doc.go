// Package lease owns who holds which pod address: a pure table that hands
// addresses out, and a ledger of small files that carries it over a restart.
// It never touches the kernel and reads no clock. The caller guards the table
// with a lock, and writes a lease into the ledger before it makes anything
// for it.
package lease
