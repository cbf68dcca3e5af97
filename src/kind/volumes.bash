# The volumes of a cluster: file systems of a size of their own, each in a file of the folder that all nodes share. Runs on a node, as root.
#
#   try               tells whether volumes can be made so: what it says is why not
#   mount             mounts all that are there; also whenever the node starts, before its kubelet
#   make USER FOLDER  makes those that are not there yet, with `data` in each for this user, and mounts them here
#   list              tells which there are, and which plain folders in their places
#   empty             empties all of these
#   detach            lets all of them move again, and gives their loop devices back
#
# FOLDER is where one is mounted; its file is beside it. All nodes mount one loop device, and they share a kernel, so they see one file system, as they
# would see one folder. A pod gets `data` in it: where nothing is mounted, there is no `data`, and no database starts on an empty folder.
set -u
readonly shared=/var/comeback size=8G

fail() { printf '%s\n' "$*" >&2; exit 1; }

# A container has only those devices that were there when it was started.
have_device() {
    local major minor
    [[ -e /dev/$1 ]] || { IFS=: read -r major minor <"/sys/block/$1/dev" && mknod "/dev/$1" b "$major" "$minor"; }
}
have_devices() {
    local at
    for at in /sys/block/loop*; do
        [[ ! -e $at/dev ]] || have_device "${at##*/}"
    done
}
device_of() { losetup --noheadings --output NAME --associated "$1" | head -n 1; }
attach() {
    local device
    for _ in {1..20}; do
        device=$(losetup --find) || return 1
        # Somebody else may have taken it meanwhile.
        have_device "${device#/dev/}" && losetup --nooverlap "$device" "$1" && return
        sleep 0.2
    done
    return 1
}
format() {
    truncate --size "$2" "$1" && mkfs.ext4 -q -F -m 0 -i 262144 -J size=32 -E lazy_itable_init=0,lazy_journal_init=0 "$1"
}
mount_one() {
    local image=$1.img
    # Two devices for one file would be two file systems that know nothing of each other.
    exec 9<"$image" && flock --timeout 30 9 || fail "$image is locked"
    have_devices
    [[ -n $(device_of "$image") ]] || attach "$image" || fail "no loop device could be had for $image"
    mkdir -p "$1"
    mountpoint --quiet "$1" || mount -t ext4 -o noatime "$(device_of "$image")" "$1" || fail "$image could not be mounted"
    exec 9<&-
}
all() {
    local image
    for image in "$shared"/*/*.img; do
        [[ ! -f $image ]] || printf '%s\n' "${image%.img}"
    done
}
list() {
    local folder
    {
        all
        for folder in "$shared"/*/*/; do [[ ! -d $folder ]] || printf '%s\n' "${folder%/}"; done
    } | sort --unique
}
# One that stands still would keep its device for ever: what stops it goes with the node, and it does not.
detach_one() {
    local device place
    have_devices
    device=$(device_of "$1.img")
    [[ -n $device ]] || return 0
    place=$(mktemp --directory) && mount -t ext4 "$device" "$place" && {
        fsfreeze --unfreeze "$place" 2>/dev/null
        umount "$place"
    }
    rmdir "$place"
    # One that is in use goes when the last node lets go of it.
    losetup --detach "$device"
}
# Does it with each of the lines: all of them, also if one fails.
each() {
    local line failed=0
    while read -r line; do
        ("$@" "$line") || failed=1
    done
    return $failed
}
empty_one() {
    [[ ! -f $1.img ]] || mount_one "$1"
    find "$1" -mindepth 1 -delete
}
make_one() {
    local user=$1 folder=$2
    if [[ ! -f $folder.img ]]; then
        mkdir -p "${folder%/*}" && format "$folder.new" "$size" && mv -T "$folder.new" "$folder.img" || fail "$folder.img could not be made"
    fi
    mount_one "$folder"
    # One that is set aside by a fault stays so.
    [[ ! -d $folder/data.refused ]] || return 0
    mkdir -p "$folder/data" && chown "$user:$user" "$folder/data" && chmod 0770 "$folder/data" || fail "$folder/data could not be made"
}

case $1 in
    try)
        # What is there already decides, whatever a node can do today: its data must not go out of sight.
        [[ -z $(all) ]] || exit 0
        [[ -z $(list) ]] || fail 'there are volumes of an earlier installation, which are plain folders'
        command -v mkfs.ext4 losetup fsfreeze >/dev/null || fail 'the nodes lack one of mkfs.ext4, losetup and fsfreeze'
        readonly tried=$shared/.try # no volume has a dot there
        clear_away() {
            umount "$tried/of" 2>/dev/null
            [[ ! -f $tried/of.img ]] || detach_one "$tried/of"
            rm -rf -- "$tried"
        }
        trap clear_away EXIT
        clear_away
        mkdir "$tried" && format "$tried/of.img" 128M || fail 'no file system could be made'
        mount_one "$tried/of"
        ;;
    mount) all | each mount_one ;;
    make) printf '%s\n' "${@:3}" | each make_one "$2" ;;
    list) list ;;
    empty) list | each empty_one ;;
    detach)
        systemctl stop 'comeback-brake-*' 2>/dev/null
        all | each detach_one
        ;;
    *) fail "nobody knows what $1 is" ;;
esac
