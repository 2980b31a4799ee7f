package web

func (s *Site) overviewPages() []page {
	return []page{
		{route: "GET ", needs: "GET /status", menu: "Overview", serve: (*call).overview},
	}
}

func (c *call) overview() error {
	status, err := c.api.Status(c.r.Context())
	if err != nil {
		return err
	}
	return c.show("overview.html", "Overview", status)
}
