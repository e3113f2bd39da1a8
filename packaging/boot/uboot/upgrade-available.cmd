# Boot script of an A/B board for U-Boot, with twinboot's `[boot] dialect = "upgrade_available"`.
#
#     mkimage -A arm64 -T script -C none -n twinboot -d upgrade-available.cmd boot.scr
#
# For the old shell of U-Boot and for the new one: no arithmetic, no functions, quotes around whatever is compared.
# U-Boot itself counts the boots of a trial (CONFIG_BOOTCOUNT_LIMIT, CONFIG_BOOTCOUNT_ENV): while upgrade_available is 1
# bootcount goes up at each boot, and once it is above bootlimit altbootcmd runs in place of bootcmd.

# -- The trial used its boots up: back to the slot before it, for good. A count that is left over from whatever was
# before (bootcount in a register counts without a trial, too) must not move a slot that is on no trial.
if test "${trial_is_over}" = 1; then
    setenv trial_is_over
    if test "${upgrade_available}" = 1; then
        echo "twinboot: slot ${slot} was tried too often"
        if test "${slot}" = b; then setenv slot a; else setenv slot b; fi
        setenv upgrade_available 0
        setenv bootcount 0
        saveenv
    fi
fi

# -- This board. The environment wins; what it does not say is said here. Nothing may be saved from here on: a default that
# was saved would win over this script for ever.
test -n "${boot_device}" || setenv boot_device "mmc 0"
test -n "${partition_a}" || setenv partition_a 2
test -n "${partition_b}" || setenv partition_b 3
test -n "${kernel}" || setenv kernel /boot/vmlinuz
test -n "${console_arguments}" || setenv console_arguments "console=ttyS0,115200"
# A device tree that a stage before us made. For one in the slot: `load` it to ${fdt_addr_r}, and hand that over.
test -n "${device_tree}" || setenv device_tree "${fdt_addr}"

# -- The slot. Also a board whose variable means nothing boots something.
if test "${slot}" = b; then
    setenv partition "${partition_b}"
else
    setenv slot a
    setenv partition "${partition_a}"
fi
setenv trial_argument
if test "${upgrade_available}" = 1; then setenv trial_argument "twinboot.trial=1"; fi
echo "twinboot: slot ${slot}, trial ${upgrade_available}, boot ${bootcount}"

# twinboot.trial=1: with it systemd alone ends the trial of a system in which twinboot is broken. panic=: without it a
# kernel that panics stays there until somebody pulls the plug. init=: without it a kernel that finds no init takes
# /bin/sh, and stays there as well.
# By this twinboot doctor sees that U-Boot reads the variables which twinboot writes.
setenv canary_argument "twinboot.canary=${twinboot_canary}"
setenv bootargs "root=PARTLABEL=rootfs-${slot} rootwait rw init=/sbin/init panic=5 ${trial_argument} ${canary_argument} ${console_arguments}"
# ARM of 32 bits: bootz. x86: zboot ${kernel_addr_r}.
load ${boot_device}:${partition} ${kernel_addr_r} ${kernel} && booti ${kernel_addr_r} - ${device_tree}

# Only if that failed. bootcmd resets, so that the boot counts.
echo "twinboot: slot ${slot} does not start"
