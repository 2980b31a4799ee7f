#!/bin/sh
# vuln.sh - look for known vulnerabilities in what the programs call, with govulncheck.
#
# Where the database cannot be reached it says so and exits 0: that is no finding. Every other
# failure is one. GOVULNDB names another database.
set -eu

GOVULNCHECK=golang.org/x/vuln/cmd/govulncheck@v1.9.0
database=${GOVULNDB:-https://vuln.go.dev}

cd "$(dirname "$0")/.."
case $database in
http://* | https://*)
	command -v curl >/dev/null || { echo "$0: curl is missing: run scripts/setup.sh test" >&2; exit 1; }
	code=0
	status=$(curl --silent --location --max-time 20 --output /dev/null --write-out '%{http_code}' "$database/index/db.json") || code=$?
	if [ "$code" != 0 ] || [ "$status" != 200 ]; then
		echo "vulnerabilities were not looked for: $database cannot be reached (curl exits with $code, HTTP status $status)"
		exit 0
	fi
	;;
esac
exec go run "$GOVULNCHECK" -db "$database" ./...
