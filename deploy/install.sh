#!/usr/bin/env bash
# Installs or upgrades pneumofed from this bundle, without any network:
#   ./install.sh /opt/pneumofed release.pub
# Each version lies in a folder of its own; .venv points to the one that runs, and back to the one before if need be.
set -euo pipefail
[ $# -eq 2 ] || { echo "usage: ./install.sh FOLDER RELEASE_PUBLIC_KEY"; exit 2; }
target=$(realpath -m "$1") key=$(realpath "$2")
cd "$(dirname "$0")"

openssl pkeyutl -verify -rawin -pubin -inkey "$key" -in SHA256SUMS -sigfile SHA256SUMS.sig >/dev/null ||
  { echo "install: the checksums are not signed with $key; nothing was installed"; exit 2; }
sha256sum --quiet --strict -c SHA256SUMS ||
  { echo "install: a file of the bundle is not the one that was signed; nothing was installed"; exit 2; }
extra=$(comm -13 <(cut -c67- SHA256SUMS | sort) <(find . -type f ! -name 'SHA256SUMS*' -printf '%P\n' | sort))
[ -z "$extra" ] || { echo "install: not part of what was signed: $extra; nothing was installed"; exit 2; }

wheel=$(basename wheels/pneumofed-*.whl)
version=${wheel#pneumofed-} version=${version%%-*}
python=${PYTHON:-python3}
place=$target/versions/$version
rm -rf "$place"
mkdir -p "$target/versions"
"$python" -m venv "$place"
"$place/bin/python" -m pip install -q --no-index --no-deps --disable-pip-version-check wheels/*.whl
cp -r docs deploy configs "$place/"
ln -sfn "versions/$version" "$target/.venv"
"$target/.venv/bin/pneumofed" --version
