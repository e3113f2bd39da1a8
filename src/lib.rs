//! twinboot: power-fail safe A/B firmware updates for Linux gateways, driven by an Azure IoT Hub device twin.
//!
//! This page is the map: ten minutes, and the rest of the crate has no surprises. What twinboot does for its users is in
//! `README.md`; how it is proved, in `tests/README.md`.
//!
//! # The idea
//!
//! The hub says what is wanted. A pure function turns what *is* and what *happened* into what is *next*. That is made
//! durable, and only then the one piece of work that it calls for is done; how it went is the next thing that happens.
//! What the hub is told is a projection of the same state. Nothing else is remembered, so waking up after a power cut
//! is no special case: it is one more thing that happened.
//!
//! ```text
//!   twin, methods        control socket        clock
//!        │ hub                 │ control          │
//!        └─────────────────────┼──────────────────┘
//!                              ▼ Event
//!   ┌─ engine ──────────────────────────────────────────────────────────────────┐
//!   │  step   Record × Facts × Event → Record                update   (pure)    │
//!   │  save   the record, before anything else               store              │
//!   │  tell   Record → Status → twin, socket, journal        report   (pure)    │
//!   │  work   State → Work                                   update   (pure)    │
//!   └──────────▲─────────────────────────────────────────────────────┬──────────┘
//!              │ Written, Done, Failed                               ▼ one at a time, on its own thread
//!              └──────── image · slots · boot · health · hooks · host ┘
//! ```
//!
//! One work belongs to each state ([`State::work`](update::State::work)), and it may begin again from any prefix of
//! itself. So there is no list of effects that could be lost, and resuming is asking again.
//!
//! # Two processes
//!
//! What parses the network holds no devices, and what holds devices has no network. As it ships, `twinboot run --net`
//! is one process and `twinboot net` another; without `--net` the same code runs in one.
//!
//! ```text
//!   twinboot run: root, the devices, no network          twinboot net: the network, the keys, nothing else
//!   ┌────────────────────────────────────────────┐       ┌──────────────────────────────────────────────┐
//!   │ engine ─ hub: conversation, waits          │ wire  │ net ─ hub: TLS, proxy, WebSocket, greeting,  │
//!   │        └ a link: Dial ──────────────── Open ──────▶│       provisioning, tokens ──▶ the hub       │
//!   │          twin, methods, reports ◀── MQTT's bytes ──│                                              │
//!   │ works  ─ image: resume, redirects, digest  │       │     ─ image: one GET ──▶ the server          │
//!   │        └ an answer ─────────────────── Get ───────▶│                                              │
//!   └────────────────────────────────────────────┘       └──────────────────────────────────────────────┘
//! ```
//!
//! The two seams are where somebody else could always stand: whoever gets the session a link ([`hub::Remote`]), and
//! whoever makes the download's requests ([`image::Net`]). Behind them is what a hub or a server says, and it is judged
//! as that. The network side keeps nothing between two connections ([`net`]), so it may be killed at any moment.
//!
//! # Floors
//!
//! A module uses the floors below its own. Neighbours do not know each other; the few exceptions and their reasons, what
//! the pure floors may touch and how long a file may be are tables in `tests/architecture.rs`, which holds us to them.
//!
//! | floor | modules | may touch |
//! | --- | --- | --- |
//! | 4 doors | `main`, [`cli`] | everything; `main` is the one place where adapters are chosen |
//! | 3 engine | [`engine`] [`control`] [`config`] [`events`] [`net`] | tasks, channels, time, and the floors below |
//! | 2 adapters | [`boot`] [`slots`] [`image`] [`bundle`] [`health`] [`hooks`] [`hub`] [`host`] [`program`] [`properties`] [`store`] [`keyring`] [`durable`] [`tls`] [`proxy`] [`secret`] [`stamp`] [`wire`] | one part of the world each |
//! | 1 decisions | [`update`] [`report`] | nothing: no clock, no files, no randomness, no async |
//! | 0 words | [`model`] | nothing; its values cannot be wrong |
//!
//! Everything but the works runs on one thread. Between floors there are channels and no locks; there is no global state.
//!
//! # Reading order
//!
//! 1. This page, and [`model`] when a word is unclear.
//! 2. [`update`]: `state.rs` (what can be), `step.rs` (what follows from what, one table), `record.rs` (what outlives an
//!    update).
//! 3. [`engine`]: how it turns; `engine/tools.rs` has a function for each work.
//! 4. Any adapter. They are told by their module pages; [`boot`] is the smallest contract, [`image`] the longest chain.
//! 5. `main.rs`: which adapters are real.
//!
//! # Words
//!
//! The **booted** slot is the one we run from; the **default** slot boots when nothing else is asked for; the **target**
//! is neither, and may be written. To **arm** is to let the target boot a few times, on **trial**; it must **confirm**
//! that it is well before we **commit** it, which makes it the default. Else we **revert** the bootloader, and the update
//! is **rolled back**. An *artifact* is bytes and what they must be; an *update* is one wish for one.
//!
//! # Laws
//!
//! | law | held by |
//! | --- | --- |
//! | What is to happen is durable before it happens; its result is written down after it. | [`engine`], where one function steps and saves |
//! | What cannot be saved is not begun. On the way back from a trial, or to its commit, it is done all the same. | [`State::may_act_unsaved`](update::State::may_act_unsaved) |
//! | The kernel and the bootloader outrank our record. A trial that it cannot explain is undone; unless the slot to go back to is empty. | [`Facts`](update::Facts), [`Record::step`](update::Record::step) |
//! | What runs, or boots by default, is never written. | [`TargetSlot`](model::TargetSlot), and by device number [`TargetDevice`](slots::TargetDevice) |
//! | No new image is armed that was not read back in this process. | [`VerifiedSlot`](model::VerifiedSlot) |
//! | One verb of the bootloader is one atomic write, read back. No environment is ever made up. | [`Bootloader`](boot::Bootloader), [`boot::uboot`] |
//! | Every step costs a step of a finite budget: a loop ends as a rollback. | [`Job::STEPS`](update::Job::STEPS) |
//! | What was rolled back is not tried again by itself. | [`Record`](update::Record) |
//! | An interrupted trial is not an ill one: it is repeated, three times. | [`Job::TRIALS`](update::Job::TRIALS) |
//! | Only a commit moves the floor under which no bundle goes. | [`Record::floor`](update::Record::floor), [`Bootloader::commit`](boot::Bootloader::commit) |
//! | What costs more than is allowed is fetched after somebody agreed to that number, and not before. | [`update::gate`], [`Job::allowance`](update::Job::allowance) |
//! | What is promised is synced. After a failed flush the data is written anew, never flushed anew. | [`durable`], [`image`], [`boot::uboot`] |
//! | Progress is not state: records are written a few times for an update. | [`image::Progress`] |
//! | One work at a time, and it has stopped before the next one starts. | [`engine::Tools`], which travel to it and back |
//! | Deadlines count from the boot; times of day count only when the clock can be right. | [`host::Host`] |
//! | Reports decide nothing. What is lost of them is told again. | [`report`], [`hub::Report`] |
//! | The network side can do what a hub or a server could, and no more. | [`wire`], [`hub::Remote`] |
//! | Secrets have types that do not show them. | [`SecretUrl`](model::SecretUrl), [`hub::Identity`] |
//! | A match over our own enums has no wildcard arm: a new state must be thought about everywhere. | a lint in `Cargo.toml` |
//! | Files are named for what they are about, and stay short. Unsafe code is in one file, which says why. | lints, `tests/architecture.rs` |

pub mod boot;
pub mod bundle;
pub mod cli;
pub mod config;
pub mod control;
pub mod durable;
pub mod engine;
pub mod events;
pub mod health;
pub mod hooks;
pub mod host;
pub mod hub;
pub mod image;
pub mod keyring;
pub mod model;
pub mod net;
pub mod program;
pub mod properties;
pub mod proxy;
pub mod report;
pub mod secret;
pub mod slots;
pub mod stamp;
pub mod store;
pub mod tls;
pub mod update;
pub mod wire;
