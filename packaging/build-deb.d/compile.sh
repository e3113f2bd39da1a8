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
    env CARGO_TARGET_DIR="$build" CARGO_ENCODED_RUSTFLAGS="$(encoded "${flags[@]}")" CARGO_TERM_PROGRESS_WHEN=never \
        "CARGO_TARGET_${variable^^}_LINKER=$gnu-gcc" "CC_$variable=$gnu-gcc" "AR_$variable=$gnu-ar" "CFLAGS_$variable=$c" \
        "$CARGO" "$@" --locked --target "$target" --jobs "$jobs"
}

# Builds the programs for ARCH, each for itself: features that one needs are not in the other.
compile() {
    local arch=$1 program
    "$CARGO" fetch --locked --quiet
    PATH=$root/target/tools/cargo-auditable-$CARGO_AUDITABLE/bin:$PATH
    say "compiling for $arch"
    for program in "${programs[@]}"; do
        cross_cargo "$arch" auditable build --profile "$profile" --bin "$program" --features "$(features_of "$program")"
    done
}

has_fleet() { grep -q '^fleet = ' Cargo.toml; }

# Puts what was built for ARCH into DIRECTORY, as packaging/debian looks for it.
collect() {
    local arch=$1 directory=$2 program
    for program in "${programs[@]}"; do
        # The profile dev has its files in debug.
        install -D -m 755 -t "$directory/bin" "$build/$(rust_target "$arch")/${profile/#dev/debug}/$program"
    done
}
