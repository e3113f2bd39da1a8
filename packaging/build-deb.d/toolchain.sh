# shellcheck shell=bash
# What packages are built with: one compiler for all architectures, Debian's newest (rustc-web, kept new for browsers),
# and for each architecture Debian's cross gcc and a standard library.
#
# Debian has the standard library of the compiler's own architecture only, so the others are built from Debian's
# source of it, once, and kept below target/tools.

readonly CARGO_AUDITABLE=0.7.7
readonly CARGO_CYCLONEDX=0.5.9
# Rust's tools from here, whatever else is installed.
export RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc CARGO=/usr/bin/cargo
jobs=${JOBS:-2}

# Rust's name of an architecture.
rust_target() {
    case $1 in
        amd64) echo x86_64-unknown-linux-gnu ;;
        arm64) echo aarch64-unknown-linux-gnu ;;
        armhf) echo armv7-unknown-linux-gnueabihf ;;
        i386) echo i686-unknown-linux-gnu ;;
    esac
}

# The prefix of its compiler and linker.
gnu_type() { dpkg-architecture -a "$1" -q DEB_HOST_GNU_TYPE 2>/dev/null; }

# Sees to it that what is needed for architectures is installed.
packages_for() {
    local arch missing=()
    local wanted=(rustc-web cargo-web libstd-rust-web-dev gcc libc6-dev dpkg-dev debhelper xz-utils)
    for arch in "$@"; do
        case $arch in
            amd64) ;;
            i386) wanted+=(rust-web-src gcc-i686-linux-gnu libc6-dev-i386-cross) ;;
            arm64) wanted+=(rust-web-src gcc-aarch64-linux-gnu libc6-dev-arm64-cross) ;;
            armhf) wanted+=(rust-web-src gcc-arm-linux-gnueabihf libc6-dev-armhf-cross) ;;
        esac
    done
    local package
    for package in "${wanted[@]}"; do
        dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
    done
    [ ${#missing[@]} != 0 ] || return 0
    [ "$install" = yes ] || die "not installed: ${missing[*]}"
    say "installing by apt: ${missing[*]}"
    local sudo=()
    [ "$(id -u)" = 0 ] || sudo=(sudo -n)
    mkdir -p target/deb
    {
        "${sudo[@]}" apt-get update -qq &&
            "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends "${missing[@]}"
    } >target/deb/apt.log 2>&1 || {
        tail -n 5 target/deb/apt.log >&2
        die "apt cannot install ${missing[*]}"
    }
}

# A program from the registry, built once: NAME VERSION. It runs for a second, so it is quick to build rather than to run.
tool() {
    local home=target/tools/$1-$2
    [ ! -x "$home/bin/$1" ] || return 0
    say "building $1 $2, once; it stays in $home"
    mkdir -p target/deb
    CARGO_TARGET_DIR=target/tools/build CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=0 \
        CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 "$CARGO" install "$1" --locked --version "$2" --jobs "$jobs" \
        --root "$home" --no-track >"target/deb/$1.log" 2>&1 || {
        tail -n 20 "target/deb/$1.log" >&2
        die "$1 cannot be built"
    }
    rm -rf target/tools/build
}

tools() {
    tool cargo-auditable "$CARGO_AUDITABLE"
    tool cargo-cyclonedx "$CARGO_CYCLONEDX"
}

# Sets `sysroot` to where the compiler finds the standard library of ARCH, building it once for each version of the compiler.
standard_library() {
    local arch=$1 target began=$SECONDS build=$root/target/deb/std
    target=$(rust_target "$arch")
    sysroot=$(rustc_default_sysroot)
    [ "$arch" != amd64 ] || return 0
    local host=$sysroot/lib/rustlib/x86_64-unknown-linux-gnu
    sysroot=$root/target/tools/std-$(dpkg-query -W -f '${Version}' rustc-web)
    local library=$sysroot/lib/rustlib/$target
    [ ! -e "$library/complete" ] || return 0
    say "building the standard library for $arch, once; it stays in $sysroot"
    # What is left of an earlier one would be a second candidate for each crate.
    rm -rf "$library" "$build/$target" && mkdir -p "$library/lib" "$build"
    # -Zbuild-std is not stable, and the variable opens what is not; only here, not for what is built with the outcome.
    RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$build \
        CARGO_ENCODED_RUSTFLAGS=$(encoded -Cembed-bitcode=yes -Cforce-unwind-tables=yes "--remap-path-prefix=$root=$SOURCES") \
        "$CARGO" build --release --target "$target" --jobs "$jobs" --manifest-path packaging/build-deb.d/std/Cargo.toml \
        -Zbuild-std=std,panic_abort,panic_unwind,proc_macro,test >"target/deb/std-$arch.log" 2>&1 || {
        tail -n 20 "target/deb/std-$arch.log" >&2
        die "the standard library for $arch cannot be built"
    }
    cp "$build/$target"/release/deps/*.rlib "$library/lib/"
    rm -f "$library"/lib/libstd_for_cross_builds*
    ln -sfn "$host" "$sysroot/lib/rustlib/x86_64-unknown-linux-gnu"
    # cargo does not see that a standard library has changed.
    rm -rf "$build" "$root/target/deb/build/$target"
    touch "$library/complete"
    say "the standard library took $((SECONDS - began)) s"
}

rustc_default_sysroot() { "$RUSTC" --print sysroot; }

# Arguments as CARGO_ENCODED_RUSTFLAGS wants them; they may have blanks in them.
encoded() {
    local IFS=$'\x1f'
    printf '%s' "$*"
}
