package access

// MaxAddresses is how many addresses are remembered.
const MaxAddresses = maxAddresses

// RefetchAfter is how often a provider is asked for its keys at most.
const RefetchAfter = refetchAfter

// Remembered is how many addresses are remembered now.
func (a *Authenticator) Remembered() int { return len(a.throttle.failed.at) }

// Rechecked gives a token the checksum of its content.
func Rechecked(token string) string {
	rest := token[:len(token)-checksumLen]
	return rest + checksum(rest)
}

// Remembered is how many callers are remembered now.
func (p *Pace) Remembered() int { return len(p.callers.at) }
