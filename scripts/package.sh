#!/bin/bash
# package.sh [OUT] - build what users install, into OUT (default build/packages).
# package.sh -version - print the version that it would have.
#
#   hyper2kvm_VERSION_ARCH.deb, hyper2kvm-VERSION-1.ARCH.rpm   for Linux: programs, user, unit,
#                                 configuration, manual pages, completions
#   hyper2kvm_VERSION_OS_ARCH.tar.gz, .zip   archives: all three programs for Linux, the two
#                                 clients for macOS and Windows
#   PROGRAM_VERSION_OS_ARCH.cdx.json   what each program is made of (CycloneDX)
#   SHA256SUMS
#
# The same commit and Go give the same bytes, in whatever directory: times are those of the
# commit (SOURCE_DATE_EPOCH), and nothing of this machine goes in. TARGETS names the
# systems, VERSION the version, which comes from git otherwise.
set -euo pipefail

NFPM=github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.1
CYCLONEDX=github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.9.0

cd "$(dirname "$0")/.."

# version: that of a tag, or one that sorts before every release and by the commit's time.
# Both kinds of package allow digits, letters, ".", "+" and "~", which sorts before nothing.
version() {
	local tag
	tag=$(git describe --tags --match 'v[0-9]*' --dirty 2>/dev/null) || true
	if [ -n "$tag" ]; then # v1.2.0, v1.2.0-rc1, v1.2.0-5-gabcdef0, any of them with -dirty
		sed -E 's/^v//; s/-dirty$/.dirty/; s/-([0-9]+)-g([0-9a-f]+)/+\1.\2/; s/-/~/g' <<<"$tag"
		return
	fi
	printf '0.0.0+%s.%s\n' "$(TZ=UTC git show -s --format=%cd --date=format-local:%Y%m%d%H%M%S)" \
		"$(git describe --always --dirty | tr - .)"
}
VERSION=${VERSION:-$(version)}
if [ "${1:-}" = -version ]; then
	echo "$VERSION"
	exit
fi

out=$(mkdir -p "${1:-build/packages}" && cd "${1:-build/packages}" && pwd)
targets=${TARGETS:-linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64}
for tool in go gzip tar zip; do
	command -v $tool >/dev/null || { echo "$0: $tool is missing: run scripts/setup.sh package" >&2; exit 1; }
done
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git show -s --format=%ct)}
export VERSION SOURCE_DATE_EPOCH CGO_ENABLED=0 TZ=UTC LC_ALL=C
umask 022

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
rm -f "$out"/hyper2kvm[-_]* "$out"/hyper2kvmd_* "$out"/h2kvmctl_* "$out/SHA256SUMS"

# The tools run here, whatever is built, and know nothing of the project's module.
export GOFLAGS="${GOFLAGS:-} -buildvcs=false"
# -trimpath, so that they share what is compiled of the standard library with the programs.
(cd "$work" && GOBIN=$work/tools GOWORK=off go install -trimpath "$NFPM" && GOBIN=$work/tools GOWORK=off go install -trimpath "$CYCLONEDX")

# build DIR OS ARCH: the programs of that system, the daemon on Linux only.
build() {
	local programs=(./cmd/hyper2kvm ./cmd/h2kvmctl)
	[ "$2" != linux ] || programs+=(./cmd/hyper2kvmd)
	mkdir -p "$1"
	GOOS=$2 GOARCH=$3 go build -trimpath -o "$1/" \
		-ldflags "-s -w -X github.com/hyper2kvm/hyper2kvm/internal/version.version=$VERSION" "${programs[@]}"
}

# common DIR: what every system gets beside the programs. The programs of this machine
# write their own manual pages and completions.
here=$work/bin/$(go env GOOS)-$(go env GOARCH)
build "$here" "$(go env GOOS)" "$(go env GOARCH)"
common() {
	mkdir -p "$1/man" "$1/completions" "$1/doc/examples"
	local program section
	for program in hyper2kvm hyper2kvmd h2kvmctl; do
		section=1
		[ $program != hyper2kvmd ] || section=8
		"$here/$program" man -section $section | gzip -9n >"$1/man/$program.$section.gz"
		"$here/$program" completion bash >"$1/completions/$program.bash"
		"$here/$program" completion zsh >"$1/completions/_$program"
		"$here/$program" completion fish >"$1/completions/$program.fish"
	done
	cp README.md SECURITY.md "$1/doc/"
	cp docs/*.md "$1/doc/"
	gzip -9n <CHANGELOG.md >"$1/doc/NEWS.md.gz"
	cp example-job.yaml example-batch.yaml packaging/conversion.conf "$1/doc/examples/"
	[ ! -d deploy ] || cp -R deploy/. "$1/doc/examples/"
}
common "$work/common"

# stamp DIR: one time and one set of modes for all in it.
stamp() {
	find "$1" -type d -exec chmod 755 {} +
	find "$1" -type f -perm /111 -exec chmod 755 {} +
	find "$1" -type f ! -perm /111 -exec chmod 644 {} +
	find "$1" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
}

# packages ARCH PROGRAMS: the .deb and the .rpm.
packages() {
	local dir=$work/package-$1
	mkdir -p "$dir"
	cp -R "$work/common/." packaging LICENSE "$dir/"
	cp -R "$2" "$dir/bin"
	printf 'hyper2kvm (%s) unstable; urgency=medium\n\n  * See NEWS.md.gz in this directory.\n\n -- %s  %s\n' "$VERSION" \
		"$(sed -n 's/^maintainer: //p' packaging/nfpm.yaml)" "$(date -R -d "@$SOURCE_DATE_EPOCH")" | gzip -9n >"$dir/packaging/changelog.gz"
	(cd "$dir" && find doc -type f | sort | sed 's|.*|  - {src: &, dst: /usr/share/&, type: doc, packager: rpm}|; s|share/doc/|share/doc/hyper2kvm/|') >>"$dir/packaging/nfpm.yaml"
	stamp "$dir"
	local kind
	for kind in deb rpm; do
		(cd "$dir" && ARCH=$1 "$work/tools/nfpm" package -f packaging/nfpm.yaml -p $kind -t "$out" >"$work/nfpm.log" 2>&1) ||
			{ cat "$work/nfpm.log" >&2; echo "$0: nfpm could not make the $kind for $1" >&2; exit 1; }
	done
}

# archive NAME OS PROGRAMS: NAME.tar.gz, or NAME.zip for Windows, with NAME/ in it.
archive() {
	local dir=$work/archive/$1
	mkdir -p "$dir"
	cp -R "$work/common/." "$dir/"
	cp LICENSE "$3"/* "$dir/"
	if [ "$2" = linux ]; then
		mkdir -p "$dir/packaging"
		cp packaging/config.yaml packaging/hyper2kvm.sysusers packaging/hyper2kvmd.service "$dir/packaging/"
	else
		rm "$dir/man/hyper2kvmd.8.gz" "$dir"/completions/*hyper2kvmd*
	fi
	stamp "$dir"
	if [ "$2" = windows ]; then
		(cd "$work/archive" && find "$1" | sort | zip -X -q -@ "$out/$1.zip")
	else
		tar -C "$work/archive" --sort=name --owner=0 --group=0 --numeric-owner --format=ustar -c "$1" | gzip -9n >"$out/$1.tar.gz"
	fi
	rm -rf "$dir"
}

# bill NAME PROGRAM: what a program is made of. The tool writes the time at which it ran.
bill() {
	"$work/tools/cyclonedx-gomod" bin -json -std -noserial -version "$VERSION" -output "$work/bom" "$2" 2>"$work/bom.log" ||
		{ cat "$work/bom.log" >&2; exit 1; }
	sed -E "s/(\"timestamp\": \")[^\"]*/\1$(date -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)/" "$work/bom" >"$out/$1.cdx.json"
}

for target in $targets; do
	os=${target%/*} arch=${target#*/}
	built=$work/bin/$os-$arch
	[ "$built" = "$here" ] || build "$built" "$os" "$arch"
	archive "hyper2kvm_${VERSION}_${os}_$arch" "$os" "$built"
	[ "$os" != linux ] || packages "$arch" "$built"
	for program in "$built"/*; do
		name=$(basename "$program" .exe)
		bill "${name}_${VERSION}_${os}_$arch" "$program"
	done
done
(cd "$out" && sha256sum -- *"$VERSION"* | sort -k 2 >SHA256SUMS)
echo "$out: $(wc -l <"$out/SHA256SUMS") files, $(du -sh "$out" | cut -f 1)"
