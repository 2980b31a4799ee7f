package main

import (
	"context"
	"strings"

	"github.com/hyper2kvm/hyper2kvm/client"
	"github.com/hyper2kvm/hyper2kvm/daemon/models"
	"github.com/hyper2kvm/hyper2kvm/internal/cliargs"
)

// resolve completes ids that are only the beginning of one, as tables show
// them. An id that fits no job is kept, so that the daemon says so. given is
// without repeats, and so is what is returned.
func resolve(ctx context.Context, c *client.Client, given []string) ([]string, error) {
	whole := make(map[string]bool)
	for page, err := range c.QueryPages(ctx, models.Query{JobIDs: given}) {
		if err != nil {
			return nil, err
		}
		for _, j := range page.Jobs {
			whole[j.Definition.ID] = true
		}
	}
	var short []string
	for _, id := range given {
		if !whole[id] {
			short = append(short, id)
		}
	}
	if len(short) == 0 {
		return given, nil
	}
	matches, err := beginnings(ctx, c, short)
	if err != nil {
		return nil, err
	}
	out := make([]string, 0, len(given))
	for _, id := range given {
		switch m := matches[id]; {
		case whole[id] || len(m) == 0:
			out = append(out, id)
		case len(m) == 1:
			out = append(out, m[0])
		default:
			return nil, cliargs.Usage("id %s fits %d jobs; give more of it", id, len(m))
		}
	}
	return distinct(out), nil
}

// distinct returns ids in their order without repeats.
func distinct(ids []string) []string {
	seen := make(map[string]bool, len(ids))
	var out []string
	for _, id := range ids {
		if !seen[id] {
			seen[id] = true
			out = append(out, id)
		}
	}
	return out
}

// beginnings finds the ids of all jobs that begin with each of short.
func beginnings(ctx context.Context, c *client.Client, short []string) (map[string][]string, error) {
	found := make(map[string][]string)
	for page, err := range c.QueryPages(ctx, models.Query{All: true}) {
		if err != nil {
			return nil, err
		}
		for _, j := range page.Jobs {
			for _, s := range short {
				if strings.HasPrefix(j.Definition.ID, s) {
					found[s] = append(found[s], j.Definition.ID)
				}
			}
		}
	}
	return found, nil
}
