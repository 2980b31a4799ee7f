package ova

// MemberHeader is the header of a member.
func MemberHeader(m Member) ([]byte, error) { return memberHeader(m) }
