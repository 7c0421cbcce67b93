// Package pinnace holds the tests that guard the shape of the whole project:
// who may import whom, how large a function may grow, that every package says
// what it owns. The program itself starts in cmd/pinnace.
package pinnace
