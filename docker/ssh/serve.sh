#!/bin/sh
# Lets mpirun of another host start ranks in this container: docker/ssh/serve.sh FOLDER
#
# FOLDER has the authorized_keys. Programs are found as by this script; all other settings come from the launcher.
set -eu
keys=${1:?folder with authorized_keys}
settings=$(mktemp -d)
ssh-keygen -q -t ed25519 -N '' -f "$settings/host_key"
exec /usr/sbin/sshd -D -e -f "$(dirname "$0")/sshd_config" \
    -o HostKey="$settings/host_key" -o AuthorizedKeysFile="$keys/authorized_keys" -o SetEnv="PATH=$PATH"
