package manifest

import (
	"maps"
	"reflect"
	"slices"
	"strings"
)

// advise says what may have been meant by a field that does not exist: a near
// name in the same place, or the same name in another.
func advise(name string, known map[string]reflect.Type) string {
	if s := suggest(name, slices.Sorted(maps.Keys(known))); s != "" {
		return s
	}
	all := homes()
	for _, home := range slices.Sorted(maps.Keys(all)) {
		if _, ok := fieldsOf(all[home])[name]; ok {
			return " here; it belongs into " + home
		}
	}
	return ""
}

// suggest returns "; did you mean X?" for the nearest of names, or "".
func suggest(name string, names []string) string {
	best, least := "", len(name)/3+1
	for _, n := range names {
		if strings.EqualFold(n, name) {
			return "; did you mean " + n + "?"
		}
		if d := distance(strings.ToLower(name), strings.ToLower(n)); d < least || d == least && best == "" && len(name) > 3 {
			best, least = n, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// distance counts the letters to insert, drop, change or swap with a
// neighbour between two words. Long words are not worth counting.
func distance(a, b string) int {
	const long = 64
	if len(a) > long || len(b) > long {
		return long
	}
	var rows [3][long + 1]int
	before, last, row := &rows[0], &rows[1], &rows[2]
	for j := range len(b) + 1 {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
