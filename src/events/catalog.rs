//! The ids of the journal entries: one per kind of event, for ever.
//!
//! Each is a random 128-bit number, made once, with a paragraph for the operator in `packaging/twinboot.catalog`; a
//! test compares the two. Monitoring is built on these: never use one for something else.

/// twinboot has started.
pub const DAEMON_STARTED: &str = "2fa0319c5eb476347b1b24e750a91ef2";
/// twinboot is stopping.
pub const DAEMON_STOPPING: &str = "8aa2c8a044860170c7cc9909114e8901";
/// The configuration was read.
pub const CONFIG_LOADED: &str = "bc1c700163367307f825312720380785";
/// An update was accepted.
pub const UPDATE_ACCEPTED: &str = "e3746ceff8f7fe7f06fc5cad087fcf77";
/// An update moved on.
pub const TRANSITION: &str = "652a65151ada521338ac132c4eda5a62";
/// A download was resumed.
pub const DOWNLOAD_RESUMED: &str = "ed04638716c16373643844bd6d27023e";
/// It is known what an update costs.
pub const DOWNLOAD_PLANNED: &str = "3cb2d0cc512986a242e604f595fadff9";
/// Somebody allowed what it costs.
pub const COST_ALLOWED: &str = "3fbae810daf878deac36f16502a71378";
/// An update waits.
pub const GATE_WAITING: &str = "9745c8b50424a3920951a77c3f817763";
/// A hook failed, and the update goes on.
pub const HOOK_FAILED: &str = "a2bc3573974246158abc3cf4665d863f";
/// Somebody allowed an update to switch over.
pub const CONSENT_GIVEN: &str = "291f5b9765be9e02c6d0c827a238826b";
/// The program of a factory reset has made the data as new.
pub const DATA_RENEWED: &str = "4401d50a5fb5273ecdb5ef1c45f38b1d";
/// A reboot was asked for.
pub const REBOOT_REQUESTED: &str = "ffa846b749d7c587e3ba02b1d97ea031";
/// A new system is on trial.
pub const TRIAL_STARTED: &str = "3f36f4c73b6e61709e4900a621e3816e";
/// A slot is the default now.
pub const SLOT_COMMITTED: &str = "7bb838d42e439577c9ec866e129186d4";
/// An update succeeded.
pub const UPDATE_SUCCEEDED: &str = "97f8efc5328a1d194ddf86a03f1c44f2";
/// The version asked for runs already.
pub const UPDATE_UP_TO_DATE: &str = "51d5b3baf410fdee54920f4b61494691";
/// An update failed before it was tried.
pub const UPDATE_FAILED: &str = "145dba2bda44772e5ca330c5f4a25461";
/// An update was rolled back.
pub const ROLLED_BACK: &str = "d02560e850dfb56e24329451a05551ad";
/// A request was refused.
pub const REQUEST_REFUSED: &str = "71f2be8a55f80f111178ee76fba9f7a5";
/// One copy of the bootloader's environment is damaged.
pub const ENV_ONE_COPY_BAD: &str = "e1e30eb3af5b094c5e59d48ea80aa8bb";
/// twinboot's own record was damaged and recovered.
pub const STATE_RECOVERED: &str = "2c745531b078da530e3a90e6891eb2fa";
/// What is remembered of keys was damaged.
pub const TRUST_DAMAGED: &str = "dc0739f832d7d520dd47c0511b1916f3";
/// twinboot cannot save its record.
pub const STATE_UNWRITABLE: &str = "24e154b81da6430338efb6cbeffb15df";
/// The hub is connected.
pub const HUB_CONNECTED: &str = "2961c09217cf98df306a791b66a1c61d";
/// The connection to the hub is lost.
pub const HUB_LOST: &str = "ff43026ac589e3a44baa7f4880ef2b8e";
/// Another device seems to use this device's identity.
pub const HUB_CONTESTED: &str = "e26c65097e71bddbe31f9adf63ee566f";
/// The hub refuses a report.
pub const HUB_REFUSED: &str = "c09d37f957c73d8661f35feb2d4b0496";
/// The identity or the trust towards the hub needs attention.
pub const HUB_WARNING: &str = "416adb697ced41fabcfbf59c71de0e15";
/// The control socket could not be opened.
pub const CONTROL_UNAVAILABLE: &str = "587288b0abf94253c413a947c2946469";

/// The daemon cannot do its work.
pub const DAEMON_FAILED: &str = "ffee497255b9ea26d4e7dcad73cc0a07";
/// There is no connection string.
pub const NOT_PROVISIONED: &str = "2d327e540655e9c7ac9a1f74512c640a";

/// There can be no connection.
pub const NETWORK_UNUSABLE: &str = "39da4d980e3ec7c2f3a25d5b8db1cc29";

/// The hub changed settings.
pub const TUNED: &str = "781e62de8db820976d0f09d0db3f1f21";
/// A setting of the hub's was refused.
pub const SETTING_REFUSED: &str = "6e1c5fd1526fb9e72fea9e89d0b8d3ed";
/// Cloud-to-device messages were ignored.
pub const MESSAGES_IGNORED: &str = "4c2d29ec0d4e16434544327d6438b3a4";

/// What an update has to do now failed, and is tried again.
pub const WORK_FAILED: &str = "a4a740de2f161a29440186c66323e327";
/// Something is missing, and twinboot waits for it.
pub const WAITING: &str = "1ed1eadc6bcba27c7f34e9bd819ec9d0";
/// Something is missing, and twinboot does what it can without.
pub const LACKING: &str = "ce07b79c63fc7114f940a55c404aac32";
/// Another configuration is in force.
pub const RELOADED: &str = "37cd8801af66193170e98a78f1cbc983";
/// The configuration was read again and cannot be used.
pub const RELOAD_REFUSED: &str = "ba5c045e8ce75ccf398f4b3a81f9f51c";
/// A system on trial that cannot be judged is given up.
pub const TRIAL_STRANDED: &str = "ab691b9412e1d5bd191de66c5245bceb";
/// The guard ends a trial that nobody has judged.
pub const TRIAL_OVERDUE: &str = "8be0dacd222a9bbe5a0889f54d264d32";
/// The guard over trials cannot do its work.
pub const GUARD_FAILED: &str = "98aef5cb49fc40dba7fd7197d4fed604";

/// All of them, by name.
pub const ALL: &[(&str, &str)] = &[
    ("DAEMON_STARTED", DAEMON_STARTED),
    ("DAEMON_STOPPING", DAEMON_STOPPING),
    ("CONFIG_LOADED", CONFIG_LOADED),
    ("UPDATE_ACCEPTED", UPDATE_ACCEPTED),
    ("TRANSITION", TRANSITION),
    ("DOWNLOAD_RESUMED", DOWNLOAD_RESUMED),
    ("DOWNLOAD_PLANNED", DOWNLOAD_PLANNED),
    ("COST_ALLOWED", COST_ALLOWED),
    ("GATE_WAITING", GATE_WAITING),
    ("HOOK_FAILED", HOOK_FAILED),
    ("CONSENT_GIVEN", CONSENT_GIVEN),
    ("DATA_RENEWED", DATA_RENEWED),
    ("REBOOT_REQUESTED", REBOOT_REQUESTED),
    ("TRIAL_STARTED", TRIAL_STARTED),
    ("SLOT_COMMITTED", SLOT_COMMITTED),
    ("UPDATE_SUCCEEDED", UPDATE_SUCCEEDED),
    ("UPDATE_UP_TO_DATE", UPDATE_UP_TO_DATE),
    ("UPDATE_FAILED", UPDATE_FAILED),
    ("ROLLED_BACK", ROLLED_BACK),
    ("REQUEST_REFUSED", REQUEST_REFUSED),
    ("ENV_ONE_COPY_BAD", ENV_ONE_COPY_BAD),
    ("STATE_RECOVERED", STATE_RECOVERED),
    ("TRUST_DAMAGED", TRUST_DAMAGED),
    ("STATE_UNWRITABLE", STATE_UNWRITABLE),
    ("HUB_CONNECTED", HUB_CONNECTED),
    ("HUB_LOST", HUB_LOST),
    ("HUB_CONTESTED", HUB_CONTESTED),
    ("HUB_REFUSED", HUB_REFUSED),
    ("HUB_WARNING", HUB_WARNING),
    ("CONTROL_UNAVAILABLE", CONTROL_UNAVAILABLE),
    ("DAEMON_FAILED", DAEMON_FAILED),
    ("NOT_PROVISIONED", NOT_PROVISIONED),
    ("NETWORK_UNUSABLE", NETWORK_UNUSABLE),
    ("TUNED", TUNED),
    ("SETTING_REFUSED", SETTING_REFUSED),
    ("MESSAGES_IGNORED", MESSAGES_IGNORED),
    ("WORK_FAILED", WORK_FAILED),
    ("WAITING", WAITING),
    ("LACKING", LACKING),
    ("RELOADED", RELOADED),
    ("RELOAD_REFUSED", RELOAD_REFUSED),
    ("TRIAL_STRANDED", TRIAL_STRANDED),
    ("TRIAL_OVERDUE", TRIAL_OVERDUE),
    ("GUARD_FAILED", GUARD_FAILED),
];
