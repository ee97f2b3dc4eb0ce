#!/usr/bin/env bash
# Builds the runner of the version that this one may have to share its tables with during a deploy, and prints where
# it is: the commit in `previous-version`, which moves when a version has been deployed everywhere.
# Prints nothing where the clone does not reach that far back. The first argument is a folder for what is built.
set -euo pipefail
cd "$(dirname "$0")/../.."

commit=$(cat infra/checks/previous-version)
folder="$1/previous-$commit"
if [ ! -x "$folder/parlance-local" ]; then
    if ! git cat-file -e "$commit^{commit}" 2>/dev/null; then
        echo "the previous version, $commit, is not in this clone" >&2
        exit 0
    fi
    mkdir -p "$folder/source"
    git archive "$commit" | tar -x -C "$folder/source"
    # A target folder of its own: cargo takes the older files of another tree for built already.
    CARGO_TARGET_DIR="$folder/target" CARGO_PROFILE_DEV_DEBUG=0 \
        cargo build --quiet --locked --manifest-path "$folder/source/Cargo.toml" -p parlance-local >&2
    mv "$folder/target/debug/parlance-local" "$folder/"
    rm -rf "$folder/source" "$folder/target"
fi
echo "$folder/parlance-local"
