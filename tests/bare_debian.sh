#!/bin/sh
# `./dev demo` and `./dev test` in a bare Debian 12 root file system, made by mmdebstrap and entered in a mount
# namespace of its own, so that the host sees none of its mounts. What the README names as required is all that is
# installed by hand; the rest is `./dev`'s to install. Run by `./dev test-bare` as root.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
uri=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | head -n 1)

echo "bare: making the root file system" >&2
unshare --mount --propagation private mmdebstrap --quiet --variant=minbase bookworm "$root" "$uri" >&2
# How this host reaches its package registries: resolver, certificates, apt's sources. No package comes with it.
cp /etc/resolv.conf "$root/etc/resolv.conf"
rm "$root/etc/apt/sources.list"
cp /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources "$root/etc/apt/sources.list.d/" 2>/dev/null || true
rm -rf "$root"/var/lib/apt/lists/*
mkdir -p "$root/src" "$root/usr/local/share/ca-certificates"
# The package ca-certificates, which ./dev installs, takes up what lies here.
cp /etc/ssl/certs/ca-certificates.crt "$root/usr/local/share/ca-certificates/host.crt"
git clone -q . "$root/src/specrun"

cat > "$root/src/inside" <<'INSIDE'
set -eu
export HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8
export PIP_CERT=/etc/ssl/certs/ca-certificates.crt
cd /src/specrun
./dev demo
echo "bare: demo passed" >&2
./dev test
echo "bare: tests passed" >&2
INSIDE

unshare --mount --propagation private sh -eu -c '
    root=$1
    mount --bind "$root" "$root"
    mount -t proc proc "$root/proc"
    mount --rbind /sys "$root/sys"
    mount --rbind /dev "$root/dev"
    exec env -i /usr/sbin/chroot "$root" sh /src/inside
' sh "$root"
