# Boot script of an A/B board for U-Boot, with twinboot's `[boot] dialect = "boot_order"` (RAUC's variables).
#
#     mkimage -A arm64 -T script -C none -n twinboot -d boot-order.cmd boot.scr
#
# For the old shell of U-Boot and for the new one. It needs CONFIG_CMD_SETEXPR. Every boot writes the environment, as one
# boot is taken off the slot's count; twinboot fills that up once the system runs.

# -- The first slot of the order that has a boot left. Counts are hexadecimal.
test -n "${BOOT_ORDER}" || setenv BOOT_ORDER "A B"
test -n "${BOOT_A_LEFT}" || setenv BOOT_A_LEFT 3
test -n "${BOOT_B_LEFT}" || setenv BOOT_B_LEFT 3
setenv slot
setenv trial_argument
# twinboot's own variable: a trial is under way, of the slot that is the first.
if test -n "${twinboot_trial}"; then setenv trial_argument "twinboot.trial=1"; fi
for name in ${BOOT_ORDER}; do
    if test -z "${slot}" && test "${name}" = A && test "${BOOT_A_LEFT}" != 0; then
        setenv slot a
        setexpr BOOT_A_LEFT ${BOOT_A_LEFT} - 1
    fi
    if test -z "${slot}" && test "${name}" = B && test "${BOOT_B_LEFT}" != 0; then
        setenv slot b
        setexpr BOOT_B_LEFT ${BOOT_B_LEFT} - 1
    fi
    # Whatever comes after the first is no trial.
    if test -z "${slot}"; then setenv trial_argument; fi
done

if test -z "${slot}"; then
    # Nobody is left: rather begin again than stand still. bootcmd resets.
    echo "twinboot: no slot of ${BOOT_ORDER} has a boot left"
    setenv BOOT_A_LEFT 3
    setenv BOOT_B_LEFT 3
fi
# Before the kernel, so that a slot that does not start has used its boot.
saveenv

# -- This board. The environment wins; what it does not say is said here. Nothing may be saved from here on: a default that
# was saved would win over this script for ever.
test -n "${boot_device}" || setenv boot_device "mmc 0"
test -n "${partition_a}" || setenv partition_a 2
test -n "${partition_b}" || setenv partition_b 3
test -n "${kernel}" || setenv kernel /boot/vmlinuz
test -n "${console_arguments}" || setenv console_arguments "console=ttyS0,115200"
# A device tree that a stage before us made. For one in the slot: `load` it to ${fdt_addr_r}, and hand that over.
test -n "${device_tree}" || setenv device_tree "${fdt_addr}"

if test -n "${slot}"; then
    if test "${slot}" = b; then setenv partition "${partition_b}"; else setenv partition "${partition_a}"; fi
    echo "twinboot: slot ${slot}, order ${BOOT_ORDER}, left ${BOOT_A_LEFT} ${BOOT_B_LEFT}"
    # twinboot.trial=1: with it systemd alone ends the trial of a system in which twinboot is broken. panic=: without it a
    # kernel that panics stays there until somebody pulls the plug. init=: without it a kernel that finds no init takes
    # /bin/sh, and stays there as well.
    # By this twinboot doctor sees that U-Boot reads the variables which twinboot writes.
    setenv canary_argument "twinboot.canary=${twinboot_canary}"
    setenv bootargs "root=PARTLABEL=rootfs-${slot} rootwait rw init=/sbin/init panic=5 ${trial_argument} ${canary_argument} ${console_arguments}"
    # ARM of 32 bits: bootz. x86: zboot ${kernel_addr_r}.
    load ${boot_device}:${partition} ${kernel_addr_r} ${kernel} && booti ${kernel_addr_r} - ${device_tree}
    echo "twinboot: slot ${slot} does not start"
fi
