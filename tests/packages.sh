# shellcheck shell=bash
# shellcheck disable=SC2154  # `logs` and `ran` are those of tests/run
# The tier `packages`, called by tests/run: the Debian packages, built for every architecture as they are released, and
# what holds for them. On real systems they are tried by tests/packages/run.

readonly ARCHITECTURES=(amd64 arm64 armhf i386)
# What an architecture's own machine would have to have: any C library since Debian 12 and Ubuntu 22.04.
readonly LIBC_FLOOR=2.34
readonly PROGRAM_LIMIT=$((6 << 20)) INSTALLED_LIMIT=$((10 << 10))
debs=target/deb

packages() {
    need lintian=lintian qemu-arm-static=qemu-user-static python3=python3 faketime=faketime git=git || return 0
    local arch began=$SECONDS built=("${ARCHITECTURES[@]}") foreign=(arm64 armhf i386)
    if [ -n "$sample" ]; then
        built=("$SAMPLE_PACKAGES") foreign=("$SAMPLE_CROSS")
        say "a sample: ${built[*]}, tests on ${foreign[*]}; all of them: tests/run packages"
    fi
    rm -f "$debs"/*.deb "$debs"/*.cdx.json
    check "packages for ${built[*]}" packaging/build-deb "${built[@]}"
    [ "$failed" = 0 ] || return 0
    took "building"
    for arch in "${built[@]}"; do
        check "lintian, $arch" lintian --fail-on error,warning --display-info --pedantic "$debs"/*_"$arch".deb
        check "footprint and dependencies, $arch" footprint "$arch"
        check "bills of materials, $arch" bills "$arch"
    done
    took "looking at them"
    for arch in "${foreign[@]}"; do
        [ -n "$sample" ] || check "the programs start, $arch" starts "$arch"
        cross_tests "$arch"
        took "tests on $arch"
    done
    check "the same packages elsewhere, at another time" reproducible
    took "building them again"
    if [ -e tests/packages/run ]; then
        stories
        took "installing them"
    fi
}

# Tells what a part took.
took() {
    say "$1 took $((SECONDS - began)) s"
    began=$SECONDS
}

package_of() { echo "$debs/$1"_*_"$2".deb; }

# Size of the program, size of the package, what it needs: ARCH.
footprint() {
    local package deb unpacked size installed depends
    unpacked=$(mktemp -d -p target/run)
    for package in twinboot twinboot-fleet; do
        deb=$(package_of "$package" "$1")
        dpkg-deb -x "$deb" "$unpacked"
        size=$(stat -c %s "$unpacked/usr/bin/$package")
        installed=$(dpkg-deb -f "$deb" Installed-Size)
        depends=$(dpkg-deb -f "$deb" Depends)
        say "$package $1: program $size bytes, installed $installed KiB, package $(stat -c %s "$deb") bytes, needs $depends"
        [ "$size" -le "$PROGRAM_LIMIT" ] && [ "$installed" -le "$INSTALLED_LIMIT" ] || return 1
        [ "$depends" = "libc6 (>= $LIBC_FLOOR), libgcc-s1" ] || return 1
    done
    rm -rf "$unpacked"
}

# The bill of materials beside each package has what the program itself says is in it (cargo auditable): ARCH.
bills() {
    local package unpacked
    unpacked=$(mktemp -d -p target/run)
    for package in twinboot twinboot-fleet; do
        dpkg-deb -x "$(package_of "$package" "$1")" "$unpacked"
        "$(dpkg-architecture -a "$1" -q DEB_HOST_GNU_TYPE 2>/dev/null)-objcopy" --dump-section ".dep-v0=$unpacked/section" \
            "$unpacked/usr/bin/$package" "$unpacked/copy" || return 1
        python3 tests/bill.py "$unpacked/section" "$debs/${package}"_*_"$1".cdx.json || return 1
    done
    rm -rf "$unpacked"
}

# How a program of an architecture is run here: by an emulator, or as it is. One that hangs is killed.
runner() {
    case $1 in
        arm64) echo "timeout -k 5 900 qemu-aarch64-static -L /usr/aarch64-linux-gnu" ;;
        armhf) echo "timeout -k 5 900 qemu-arm-static -L /usr/arm-linux-gnueabihf" ;;
        # qemu-i386 hangs in programs with threads; the processor itself understands them.
        i386) echo "timeout -k 5 900 /usr/i686-linux-gnu/lib/ld-linux.so.2 --library-path /usr/i686-linux-gnu/lib" ;;
    esac
}

# The packaged programs start, and are what the packages say: ARCH.
starts() {
    local unpacked run package said status=0
    unpacked=$(mktemp -d -p target/run)
    read -ra run <<<"$(runner "$1")"
    for package in twinboot twinboot-fleet; do
        dpkg-deb -x "$(package_of "$package" "$1")" "$unpacked"
        said=$("${run[@]}" "$unpacked/usr/bin/$package" --version) || status=1
        [ "$said" = "$package $(dpkg-deb -f "$(package_of "$package" "$1")" Version | sed 's/~/-/')" ] || status=1
    done
    rm -rf "$unpacked"
    return "$status"
}

# What is about numbers, bytes and offsets rather than about waiting, on ARCH: values, the table of updates, files that
# outlive a power cut, boot environments, decoders, slots. The profile `cross` is quick to build.
cross_tests() {
    say "tests on $1"
    run_tests "packages-$1.log" cross "$1" test --locked --profile cross --package twinboot --lib --no-fail-fast -- \
        model:: update:: report:: durable:: store:: stamp:: boot:: slots:: image::checkpoint image::decode image::tests::slot
    # All of them have been found.
    [ "$ran" -ge 200 ] || fail "only $ran tests ran on $1"
}

# Runs cargo for ARCH with the toolchain of the packages: ARCH ARGUMENT...
cross() (
    root=$PWD
    die() { say "$*" && exit 1; }
    . packaging/build-deb.d/toolchain.sh
    . packaging/build-deb.d/compile.sh
    target=$(rust_target "$1")
    target=${target^^}
    export "CARGO_TARGET_${target//-/_}_RUNNER=$(runner "$1")"
    standard_library "$1"
    cross_cargo "$@"
)

# From a copy of the sources with other dates in another directory, more than a year later, for a user with other habits:
# the same bytes.
reproducible() {
    local elsewhere status=0 deb
    elsewhere=$(mktemp -d)
    git ls-files -z --cached --others --exclude-standard | tar --null --files-from=- --create --file=- |
        tar --extract --touch --file=- --directory="$elsewhere"
    mkdir "$elsewhere/target"
    ln -s "$PWD/target/tools" "$elsewhere/target/tools"
    (
        cd "$elsewhere"
        umask 077
        LC_ALL=C.UTF-8 TZ=Pacific/Kiritimati faketime --exclude-monotonic -f +400d packaging/build-deb --no-install amd64
    ) >"$logs/packages-again.log" 2>&1 || {
        tail -n 20 "$logs/packages-again.log"
        status=1
    }
    for deb in "$debs"/*_amd64.deb "$debs"/*_amd64.cdx.json; do
        cmp "$deb" "$elsewhere/$deb" || status=1
    done
    rm -rf "$elsewhere"
    return "$status"
}

# Installed, upgraded, removed and purged on real systems; the program counts its own.
stories() {
    need mmdebstrap=mmdebstrap zstd=zstd fw_printenv=libubootenv-tool mkfs.ext4=e2fsprogs \
        unshare=util-linux losetup=mount ip=iproute2 piuparts=piuparts || return 0
    say "the packages on real systems"
    counted stories.log packages tests/packages/run --deb "$(package_of twinboot amd64)"
}
