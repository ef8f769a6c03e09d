#!/bin/sh
# Makes the file tree of the base image from Debian packages, where no image registry can be reached. Needs root.
#
#   debootstrap.sh FOLDER PYTHON
#
# The mirror is the one apt uses on this machine (or $TRELLIS_DEBIAN_MIRROR); Python packages come by the pip of PYTHON,
# as it is configured.
set -eu
root=$1 python=$2
here=$(cd "$(dirname "$0")" && pwd)

mirror=${TRELLIS_DEBIAN_MIRROR:-$(
    cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
    sed -n -E 's/^URIs:[[:space:]]*([^[:space:]]+).*/\1/p; s/^deb[[:space:]]+(\[[^]]*\][[:space:]]+)?([^[:space:]]+).*/\2/p' |
    grep -E '/debian/?$' | head -n 1)}
if [ -z "$mirror" ]; then
    echo "no Debian mirror in /etc/apt: name one in TRELLIS_DEBIAN_MIRROR" >&2
    exit 2
fi

debootstrap --variant=minbase --include="$(paste -sd, "$here/packages.txt")" bookworm "$root" "$mirror" >&2

packages=$root/usr/local/lib/python3.11/dist-packages
platform=$(uname -m)
"$python" -m pip install --quiet --no-compile --target "$packages" --only-binary :all: \
    --implementation cp --python-version 3.11 --abi cp311 --abi abi3 --abi none \
    --platform "manylinux_2_28_$platform" --platform "manylinux_2_27_$platform" --platform "manylinux2014_$platform" \
    --platform "manylinux_2_17_$platform" --platform "manylinux1_$platform" --platform any \
    --requirement "$here/requirements.txt" >&2
rm -rf "$packages/bin" "$packages/sklearn/datasets/data"
printf '#!/bin/sh\nexec python3 -m pytest "$@"\n' > "$root/usr/local/bin/pytest"
chmod 755 "$root/usr/local/bin/pytest"
ln -sf python3 "$root/usr/bin/python"

chroot "$root" useradd --uid 1000 --create-home --shell /bin/bash agent
install -d -o 1000 -g 1000 "$root/work"
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/doc/* "$root"/usr/share/man/* \
    "$root"/usr/share/locale/* "$root"/var/log/*
find "$root/usr" -name __pycache__ -type d -prune -exec rm -rf {} +
chroot "$root" python3 -m compileall -q -j 0 /usr/lib/python3.11 /usr/local/lib/python3.11 >/dev/null || true
