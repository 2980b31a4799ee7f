#!/bin/sh
# openapi.sh - what spectral and redocly say of the OpenAPI description, with their
# recommended rules: no error and no warning is let pass.
#
# Both come from npm, into build/openapi at the first run. Where there is no npm, or it has
# no network, it says so and exits 0: the rules that concern this API are a Go test too.
set -eu

SPECTRAL=@stoplight/spectral-cli@6.16.3
REDOCLY=@redocly/cli@2.77.0

cd "$(dirname "$0")/.."
if ! command -v npm >/dev/null; then
	echo "the OpenAPI description was not shown to spectral and redocly: npm is missing"
	exit 0
fi
dir=build/openapi
mkdir -p $dir
if [ ! -x $dir/node_modules/.bin/spectral ] || [ ! -x $dir/node_modules/.bin/redocly ]; then
	if ! npm install --prefix $dir --no-save --no-audit --no-fund --ignore-scripts --loglevel=error "$SPECTRAL" "$REDOCLY"; then
		echo "the OpenAPI description was not shown to spectral and redocly: npm could not install them"
		exit 0
	fi
fi
echo 'extends: ["spectral:oas"]' >$dir/spectral.yaml
$dir/node_modules/.bin/spectral lint --fail-severity=hint --ruleset $dir/spectral.yaml daemon/api/testdata/openapi.yaml
# recommended-strict is recommended with its warnings as errors.
REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true \
	$dir/node_modules/.bin/redocly lint --extends=recommended-strict daemon/api/testdata/openapi.yaml
