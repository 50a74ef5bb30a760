# Sourced by the scripts here: their settings, and how they run a stage of the bundle.
PYTHON=${PYTHON:-python}
DEMO=${DEMO:-demo}
MODELS=${MODELS:-$DEMO/models}
CONFIGS=bundle/configs

stage() { # title, id, config file(s), options
    local title=$1 id=$2 config=$3
    shift 3
    echo
    echo "== $title"
    "$PYTHON" -W ignore -m monai.bundle run "$id" --bundle_root bundle --config_file "$config" "$@"
}
