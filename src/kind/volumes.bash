# The volumes of a cluster: file systems of a size of their own, each in a file of the folder that all nodes share. Runs on a node, as root.
#
#   try               tells whether a node can do this: what it says is why not
#   mount             mounts all that are there; also whenever the node starts, before its kubelet
#   make USER FOLDER  makes those that are not there yet, with `data` in each for this user, and mounts them here
#   list              tells which there are, and which plain folders in their places
#   empty             empties all of these
#   detach            gives the loop devices of all of them back
#
# FOLDER is where one is mounted; its file is beside it. All nodes mount one loop device, and they share a kernel, so they see one file system, as they
# would see one folder. A pod gets `data` in it: where nothing is mounted, there is no `data`, and no database starts on an empty folder.
set -u
readonly shared=/var/comeback size=8G

fail() { printf '%s\n' "$*" >&2; exit 1; }

# A container has only those devices that were there when it was started.
have_devices() {
    local at number
    for at in /sys/block/loop*; do
        number=${at#/sys/block/loop}
        [[ -e /dev/loop$number ]] || mknod "/dev/loop$number" b 7 "$number"
    done
}
device_of() { losetup --noheadings --output NAME --associated "$1" | head -n 1; }
attach() {
    local device
    for _ in 1 2 3 4 5; do
        device=$(losetup --find) || return 1
        [[ -e $device ]] || mknod "$device" b 7 "${device#/dev/loop}"
        # Somebody else may have taken it meanwhile.
        losetup --nooverlap "$device" "$1" && return
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
detach_one() {
    local device
    have_devices
    device=$(device_of "$1.img")
    # One that is in use goes when the last node lets go of it.
    [[ -z $device ]] || losetup --detach "$device"
}

case $1 in
    try)
        command -v mkfs.ext4 losetup >/dev/null || fail 'there is no mkfs.ext4 in the nodes'
        readonly tried=$shared/.try.$$ # no volume has a dot there
        mkdir "$tried" && format "$tried/of.img" 128M || fail 'no file system could be made'
        (mount_one "$tried/of") && umount "$tried/of"
        worked=$?
        detach_one "$tried/of"
        rm -rf -- "$tried"
        exit $worked
        ;;
    mount) all | while read -r folder; do (mount_one "$folder") || exit 1; done ;;
    make)
        readonly user=$2
        for folder in "${@:3}"; do
            if [[ ! -f $folder.img ]]; then
                mkdir -p "${folder%/*}" && format "$folder.new" "$size" && mv -T "$folder.new" "$folder.img" || fail "$folder.img could not be made"
            fi
            (mount_one "$folder") || exit 1
            # One that is set aside by a fault stays so.
            [[ -d $folder/data.refused ]] && continue
            mkdir -p "$folder/data" && chown "$user:$user" "$folder/data" && chmod 0770 "$folder/data" || fail "$folder/data could not be made"
        done
        ;;
    list) list ;;
    empty)
        list | while read -r folder; do
            [[ ! -f $folder.img ]] || (mount_one "$folder") || exit 1
            find "$folder" -mindepth 1 -delete || exit 1
        done
        ;;
    detach) all | while read -r folder; do detach_one "$folder"; done ;;
    *) fail "nobody knows what $1 is" ;;
esac
