# What a board needs besides the program. Copy this, and the directory `twinboot` beside it, into recipes-core/twinboot of
# a layer of your own. BitBake takes the files of the directory that is named like the machine.
FILESEXTRAPATHS:prepend := "${THISDIR}/twinboot:"

SRC_URI += "file://50-board.toml \
            file://fw_env.config \
            "

do_install:append() {
    install -D -m 0644 ${UNPACKDIR}/50-board.toml ${D}${sysconfdir}/twinboot/conf.d/50-board.toml
    install -D -m 0644 ${UNPACKDIR}/fw_env.config ${D}${sysconfdir}/fw_env.config
}
