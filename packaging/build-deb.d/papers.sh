# shellcheck shell=bash
# What goes with the programs and is written by others, or by programs: manual pages, licences of what is linked in, and
# the list of it (SBOM). None of it depends on where or when it is made.

# Manual pages and completions, laid out as the packages install them: DIRECTORY. Made by a program that runs here.
manual() {
    say "writing the manual"
    rm -rf "$1"
    # It runs for a moment: quick to build.
    CARGO_TARGET_DIR=$build "$CARGO" run --quiet --locked --jobs "$jobs" --package manual \
        --config profile.dev.opt-level=0 --config 'profile.dev.package."*".opt-level=0' -- "$1"
}

# The crates that are linked into programs for ARCH, a line `NAME VERSION|LICENCE` each; also those of our own.
linked_crates() {
    "$CARGO" tree --locked --package twinboot --target "$(rust_target "$1")" \
        --edges normal,no-proc-macro --prefix none --no-dedupe --format '{p}|{l}' |
        sed -E 's/^([^ ]+) v([^ |]+)[^|]*/\1 \2/' | sort -u
}

# Where the sources of a crate are: NAME VERSION.
crate_sources() {
    local directory
    for directory in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/"$1-$2"; do
        [ ! -d "$directory" ] || { echo "$directory" && return; }
    done
    die "the sources of $1 $2 are not where cargo keeps them"
}

# The files of a crate with the terms that we take it under: DIRECTORY LICENCE. One that is free to be had under MIT
# is; what the C libraries in two of them carry for tools that are not built is left out.
terms() {
    local all mit
    all=$(find "$1" -maxdepth 4 -type f \( -iname '*licen[cs]e*' -o -iname 'copying*' -o -iname 'notice*' -o -iname 'copyright*' \) \
        ! -name '*.sh' ! -name '*.rs' ! -name '*GPL*' ! -path '*/zstd/COPYING' ! -path '*/xz/COPYING' | sort)
    mit=$(grep -i '/[^/]*mit[^/]*$' <<<"$all" || true)
    if [[ -n $mit && $2 =~ (OR|/) && $2 == *MIT* && $2 != *AND* ]]; then
        printf '%s\n' "$mit"
    elif [ -n "$all" ]; then
        printf '%s\n' "$all"
    fi
}

# The licences of what is linked into programs for ARCH, as THIRD-PARTY in DIRECTORY: each text once, with the crates that
# it is for.
licences() {
    local arch=$1 directory=$2 texts=$2/texts name version licence sources file mark
    mkdir "$texts"
    while IFS='|' read -r name licence; do
        read -r name version <<<"$name"
        [[ $name != twinboot ]] || continue
        sources=$(crate_sources "$name" "$version")
        terms "$sources" "$licence" >"$texts/files"
        while read -r file; do
            mark=$(tr -s '[:space:]' ' ' <"$file" | sha256sum | cut -d ' ' -f 1)
            printf '%s\n' "$name $version ($licence)" >>"$texts/$mark.crates"
            tr -d '\r' <"$file" >"$texts/$mark.text"
        done <"$texts/files"
        [ -s "$texts/files" ] || printf '%s\n' "$name $version ($licence)" >>"$texts/none"
    done < <(linked_crates "$arch")
    {
        echo "The licences of the Rust crates that are part of twinboot and twinboot-fleet, and of the C libraries in them."
        # In the order of the first crate of each.
        for file in "$texts"/*.crates; do
            printf '%s %s\n' "$(head -n 1 "$file")" "$file"
        done | sort | awk '{ print $NF }' | while read -r file; do
            heading "$file"
            cat "${file%.crates}.text"
        done
        if [ -e "$texts/none" ]; then
            heading "$texts/none"
            echo "These come without a text of their own; the licences named are in /usr/share/common-licenses."
        fi
    } >"$directory/THIRD-PARTY"
}

# A file of lines between rules.
heading() {
    local rule
    rule=$(printf '=%.0s' {1..80})
    printf '\n%s\n' "$rule"
    sort -u "$1"
    printf '%s\n\n' "$rule"
}

# The bill of materials (CycloneDX) of each program for ARCH, as PROGRAM.cdx.json in DIRECTORY.
bills() {
    local arch=$1 directory=$2 sources=$2/sources program
    # It is written beside the manifest, so not beside ours. Cargo wants to see the files that would be compiled.
    mkdir "$sources"
    find Cargo.toml Cargo.lock src tests packaging \( -name '*.rs' -o -name 'Cargo.*' \) -print0 |
        tar --create --null --files-from=- | tar --extract --directory="$sources"
    SOURCE_DATE_EPOCH=$(dpkg-parsechangelog -l packaging/debian/changelog -S Timestamp) \
        "target/tools/cargo-cyclonedx-$CARGO_CYCLONEDX/bin/cargo-cyclonedx" cyclonedx --quiet --format json --spec-version 1.5 \
        --describe binaries --features fleet --target "$(rust_target "$arch")" --manifest-path "$sources/Cargo.toml"
    for program in twinboot twinboot-fleet; do
        sed "s#$sources#$SOURCES#g" "$sources/${program}_bin.cdx.json" >"$directory/$program.cdx.json"
    done
}
