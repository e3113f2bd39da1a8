SUMMARY = "Power-fail safe A/B firmware updates, driven by an Azure IoT Hub device twin"
DESCRIPTION = "Streams the firmware that the device's twin asks for into the root file system that is not in use, reads \
it back, has U-Boot try it, and makes it the default once it is well; goes back by itself otherwise."
SECTION = "admin"
LICENSE = "MIT | Apache-2.0"
LIC_FILES_CHKSUM = "file://LICENSE;md5=efef9064776be273b4dfe70ac8c13ca4"

require ${BPN}-crates.inc

inherit cargo externalsrc features_check systemd useradd

REQUIRED_DISTRO_FEATURES = "systemd"

# What is built is what lies around this layer, at whatever revision that is. Nothing is written there.
EXTERNALSRC = "${@os.path.realpath('${THISDIR}/../../../..')}"
# nooelint: oelint.vars.mispell.unknown
EXTERNALSRC_SYMLINKS = ""

# The standard library of OpenEmbedded is made for unwinding, and for nothing else.
export CARGO_PROFILE_RELEASE_PANIC = "unwind"
# BitBake strips the program itself, and keeps what it takes away in the package -dbg.
export CARGO_PROFILE_RELEASE_STRIP = "none"

SYSTEMD_SERVICE:${PN} = "twinboot.service twinboot-trial.timer"

USERADD_PACKAGES = "${PN}"
GROUPADD_PARAM:${PN} = "--system twinboot"

do_install() {
    install -D -m 0755 ${B}/target/${CARGO_TARGET_SUBDIR}/twinboot ${D}${bindir}/twinboot
    install -D -m 0644 ${S}/config/twinboot.toml ${D}${sysconfdir}/twinboot/twinboot.toml
    for each in conf.d health.d hooks.d keys.d properties.d; do
        install -d ${D}${sysconfdir}/twinboot/$each
    done
    install -m 0644 ${S}/packaging/keys.d/README ${D}${sysconfdir}/twinboot/keys.d/README
    install -d ${D}${systemd_system_unitdir}
    for each in ${S}/systemd/*.service ${S}/systemd/*.socket ${S}/systemd/*.timer; do
        [ ! -e $each ] || install -m 0644 $each ${D}${systemd_system_unitdir}/
    done
    install -D -m 0644 ${S}/packaging/tmpfiles.d/twinboot.conf ${D}${nonarch_libdir}/tmpfiles.d/twinboot.conf
    install -D -m 0644 ${S}/packaging/twinboot.catalog ${D}${nonarch_libdir}/systemd/catalog/twinboot.catalog
}

FILES:${PN} += "${systemd_system_unitdir} ${nonarch_libdir}/tmpfiles.d ${nonarch_libdir}/systemd/catalog"
CONFFILES:${PN} = "${sysconfdir}/twinboot/twinboot.toml"

# Of util-linux what twinboot-medium@.service calls.
RRECOMMENDS:${PN} = "ca-certificates util-linux-mount util-linux-nsenter util-linux-umount"
