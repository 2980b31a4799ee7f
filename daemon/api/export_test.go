package api

import "maps"

// Routes are all routes there are, as METHOD /path.
func Routes() []string {
	var all []string
	for route := range maps.Keys(leastRole) {
		all = append(all, route)
	}
	return all
}
