# shellcheck shell=bash
# What goes with the programs and is written by others, or by programs: manual pages, licences of what is linked in, and
# the list of it (SBOM). None of it depends on where or when it is made.

# The features that a program is built with.
features_of() {
    case $1 in
        twinboot) ;;
        twinboot-fleet) echo fleet ;;
    esac
}

# Manual pages and completions, laid out as the packages install them: DIRECTORY. Made by a program that runs here.
manual() {
    say "writing the manual"
    # It runs for a moment: quick to build.
    CARGO_TARGET_DIR=$build "$CARGO" run --quiet --locked --jobs "$jobs" --package manual \
        --config profile.dev.opt-level=0 --config 'profile.dev.package."*".opt-level=0' -- "$1"
}

# The crates that are linked into PROGRAM for ARCH, a line `NAME VERSION|LICENCE` each; also those of our own.
linked_crates() {
    "$CARGO" tree --locked --package twinboot --features "$(features_of "$1")" --target "$(rust_target "$2")" \
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

# The licences of what is linked into PROGRAM for ARCH, each text once with the crates that it is for.
licences() {
    local program=$1 arch=$2 texts name version licence directory file mark
    texts=$(mktemp -d)
    while IFS='|' read -r name licence; do
        read -r name version <<<"$name"
        [[ $name != twinboot ]] || continue
        directory=$(crate_sources "$name" "$version")
        local found=no
        while read -r file; do
            [ -n "$file" ] || continue
            found=yes
            mark=$(tr -s '[:space:]' ' ' <"$file" | sha256sum | cut -d ' ' -f 1)
            printf '%s\n' "$name $version ($licence)" >>"$texts/$mark.crates"
            tr -d '\r' <"$file" >"$texts/$mark.text"
        done < <(terms "$directory" "$licence")
        if [ "$found" = no ]; then
            printf '%s\n' "$name $version ($licence)" >>"$texts/none"
        fi
    done < <(linked_crates "$program" "$arch")
    printf '%s\n' "The licences of the Rust crates that are part of $program, and of the C libraries in them."
    for file in "$texts"/*.crates; do
        printf '%s %s\n' "$(head -n 1 "$file")" "$file"
    done | sort | awk '{ print $NF }' | while read -r file; do
        printf '\n%s\n' "================================================================================"
        sort -u "$file"
        printf '%s\n\n' "================================================================================"
        cat "${file%.crates}.text"
    done
    if [ -e "$texts/none" ]; then
        printf '\n%s\n' "================================================================================"
        sort -u "$texts/none"
        printf '%s\n\n' "================================================================================"
        printf '%s\n' "These come without a text of their own. The terms named are those in the file copyright beside this one."
    fi
    rm -rf "$texts"
}
