# shellcheck shell=bash
# Compiles what goes into the packages. What it makes must not depend on where it is made: paths of this machine are
# replaced by these.

readonly SOURCES=/usr/src/twinboot CRATES=/usr/src/crates
build=$root/target/deb/build

# Runs cargo for ARCH, with what it takes to make the same of the same anywhere: ARCH ARGUMENT...
cross_cargo() {
    local arch=$1 target variable gnu registry
    shift
    target=$(rust_target "$arch")
    gnu=$(gnu_type "$arch")
    variable=${target//-/_}
    local flags=(--sysroot "$sysroot" "--remap-path-prefix=$root=$SOURCES")
    # The decoders are of C and read what strangers may send: with the compiler's checks, as Debian builds its packages.
    local c="-fstack-protector-strong -D_FORTIFY_SOURCE=2 -Wno-error=cpp -ffile-prefix-map=$root=$SOURCES"
    for registry in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*; do
        flags+=("--remap-path-prefix=$registry=$CRATES")
        c+=" -ffile-prefix-map=$registry=$CRATES"
    done
    env CARGO_TARGET_DIR="$build" CARGO_BUILD_TARGET="$target" CARGO_BUILD_JOBS="$jobs" CARGO_TERM_PROGRESS_WHEN=never \
        CARGO_ENCODED_RUSTFLAGS="$(encoded "${flags[@]}")" \
        "CARGO_TARGET_${variable^^}_LINKER=$gnu-gcc" "CC_$variable=$gnu-gcc" "AR_$variable=$gnu-ar" "CFLAGS_$variable=$c" \
        "$CARGO" "$@"
}

# Builds the programs for ARCH. Together, for they are of one library: the feature only says that there is a second one.
compile() {
    local arch=$1
    "$CARGO" fetch --locked --quiet
    PATH=$root/target/tools/cargo-auditable-$CARGO_AUDITABLE/bin:$PATH
    say "compiling for $arch"
    cross_cargo "$arch" auditable build --locked --profile "$profile" --bin twinboot --bin twinboot-fleet --features fleet
}
