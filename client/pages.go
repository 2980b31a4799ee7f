package client

import (
	"context"
	"iter"
	"slices"

	"github.com/hyper2kvm/hyper2kvm/daemon/models"
)

// queryPage is how many jobs QueryPages asks for at a time.
const queryPage = 1000

// QueryPages asks for all jobs of q, or q.Limit of them, page by page, so that
// no answer is large however many there are. Each page has the Total and
// NextCursor that the daemon gave with it; those of job ids count that page
// only. It ends after the first error.
func (c *Client) QueryPages(ctx context.Context, q models.Query) iter.Seq2[models.QueryResult, error] {
	if len(q.JobIDs) > 0 {
		return c.pagesByID(ctx, q)
	}
	return func(yield func(models.QueryResult, error) bool) {
		left := q.Limit
		for {
			q.Limit = queryPage
			if left > 0 {
				q.Limit = min(left, queryPage)
			}
			r, err := c.Query(ctx, q)
			if !yield(r, err) || err != nil || r.NextCursor == "" {
				return
			}
			if left > 0 {
				if left -= len(r.Jobs); left <= 0 {
					return
				}
			}
			q.Cursor = r.NextCursor
		}
	}
}

// pagesByID asks for jobs in the order of their ids.
func (c *Client) pagesByID(ctx context.Context, q models.Query) iter.Seq2[models.QueryResult, error] {
	return func(yield func(models.QueryResult, error) bool) {
		for ids := range slices.Chunk(q.JobIDs, queryPage) {
			r, err := c.Query(ctx, models.Query{JobIDs: ids})
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}
