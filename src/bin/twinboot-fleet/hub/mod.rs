//! The hub's service REST API, as a client: requests with their tokens, retries and paging. What is asked is each
//! command's; what the paths are is told in one file for each of the hub's things.
//!
//! Source: "IoT Hub Service REST", and what the vendor's service SDKs send. One api-version is used for all.

mod answer;
mod budget;
mod configurations;
mod identities;
mod jobs;
mod methods;
mod outage;
mod rows;
mod token;
mod twins;

use std::error::Error as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use serde_json::Value;
use tokio::time::Instant;

use twinboot::tls;

pub(crate) use answer::Answer;
use answer::{Broken, holds};
pub(crate) use budget::{Budget, Kind};
pub(crate) use methods::Reply;
pub(crate) use outage::Outage;
pub(crate) use reqwest::Method;
pub(crate) use rows::Rows;
use token::Tokens;

use crate::connection::Connection;
use crate::failure::{Exit, Failure, Outcome};
use crate::show::complain;

const API_VERSION: &str = "2021-04-12";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// The hub itself takes no longer for anything but a direct method, which says so.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// How long one request is repeated when the hub has no room for it.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between repetitions after a broken connection or a fault of the hub's.
const MISHAP_PAUSE: Duration = Duration::from_secs(1);
const MISHAPS: u32 = 4;
/// A longer wait for the hub to have room is told.
const LONG: Duration = Duration::from_secs(10);

/// A hub, and who we are to it.
#[derive(Debug)]
pub(crate) struct Hub {
    http: reqwest::Client,
    /// `https://host:port`.
    base: String,
    host: String,
    tokens: Tokens,
    budget: Budget,
    /// A connection has come about: the name, the authority and the network were right.
    was_reached: AtomicBool,
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    method: Method,
    kind: Kind,
    path: String,
    parameters: String,
    headers: Vec<(&'static str, String)>,
    body: Option<Value>,
    timeout: Duration,
    /// Whether doing it twice is as good as once.
    repeatable: bool,
}

impl Call {
    /// A request of this kind; GET, PUT and DELETE are repeated if the connection breaks, others are not.
    pub(crate) fn new(method: Method, kind: Kind, path: impl Into<String>) -> Self {
        let repeatable = [Method::GET, Method::PUT, Method::DELETE].contains(&method);
        let (headers, timeout, parameters) = (Vec::new(), ANSWER_TIMEOUT, String::new());
        Self { method, kind, path: path.into(), parameters, headers, body: None, timeout, repeatable }
    }

    pub(crate) fn body(self, body: Value) -> Self {
        Self { body: Some(body), ..self }
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// A further parameter of the address, which must need no encoding.
    pub(crate) fn parameter(mut self, name: &str, value: &str) -> Self {
        self.parameters.push_str(&format!("&{name}={value}"));
        self
    }

    /// How long the answer may take.
    pub(crate) fn within(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// It may be repeated although it is not of a kind for which that is a matter of course.
    pub(crate) fn repeatable(self) -> Self {
        Self { repeatable: true, ..self }
    }
}

impl Hub {
    /// Sets up a client; nothing is sent yet.
    ///
    /// # Errors
    /// If nobody is trusted, or the HTTP library cannot be set up.
    pub(crate) fn new(connection: Connection) -> Outcome<Self> {
        let settings = tls::Settings { ca_files: connection.ca_files, ..tls::Settings::default() };
        let tls = tls::client_config(&settings).map_err(|error| {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            Failure::usage(format!("{error}{cause}"))
                .remedy("--ca-file or $TWINBOOT_CA_FILE names authorities to trust")
        })?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured((*tls).clone())
            .https_only(true)
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("twinboot-fleet/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| Failure::failed(format!("setting up HTTP: {error}")))?;
        let service = connection.service;
        let (base, host) = (format!("https://{}", service.hub), service.hub.host.clone());
        let (tokens, budget, was_reached) = (Tokens::new(service), Budget::default(), AtomicBool::new(false));
        Ok(Self { http, base, host, tokens, budget, was_reached })
    }

    /// Asks, and asks again where that is right: while the hub has no room, and after mishaps of the line.
    ///
    /// # Errors
    /// If there is no answer. An answer of refusal is one, and none of these.
    pub(crate) async fn ask(&self, call: &Call) -> Outcome<Answer> {
        let begun = Instant::now();
        let mut mishaps = 0;
        loop {
            let permit = self.budget.turn(call.kind).await;
            let answer = self.once(call).await;
            drop(permit);
            let is_reached = match &answer {
                Ok(_) => true,
                Err(Broken::Connection(error)) => !error.is_connect(),
                Err(Broken::Malformed(_)) => false,
            };
            self.was_reached.fetch_or(is_reached, Ordering::Relaxed);
            let mishap = match answer {
                Ok(answer) if answer.status == 429 && begun.elapsed() < PATIENCE => {
                    let wait = self.budget.refused(call.kind, answer.retry_after());
                    if let Some(wait) = wait.filter(|wait| *wait > LONG) {
                        complain(&format!("the hub is asked too much: waiting {} s", wait.as_secs()), "");
                    }
                    continue;
                }
                Ok(answer)
                    if matches!(answer.status, 500 | 502 | 503) && call.repeatable && mishaps < MISHAPS =>
                {
                    answer.retry_after().unwrap_or(MISHAP_PAUSE * (1 << mishaps))
                }
                Ok(mut answer) => {
                    match answer.status {
                        // It is given up, and as much too fast as before.
                        429 => drop(self.budget.refused(call.kind, answer.retry_after())),
                        _ => self.budget.taken(call.kind),
                    }
                    answer.is_repeated = mishaps > 0;
                    return Ok(answer);
                }
                Err(Broken::Malformed(what)) => {
                    let text = format!("{} answers with {what}: is it an IoT hub?", self.host);
                    return Err(Failure { is_unsure: true, ..Failure::unreachable(text) });
                }
                Err(Broken::Connection(error)) if mishaps >= MISHAPS || !self.is_worth(&error, call) => {
                    return Err(self.unreachable(&error));
                }
                Err(Broken::Connection(_)) => MISHAP_PAUSE * (1 << mishaps),
            };
            mishaps += 1;
            tokio::time::sleep(mishap.min(ANSWER_TIMEOUT)).await;
        }
    }

    /// Whether asking again may help, and does no harm. What never worked is told at once: a wrong name or authority does
    /// not get better. Where no connection came about, the hub has not heard of it.
    fn is_worth(&self, error: &reqwest::Error, call: &Call) -> bool {
        if error.is_connect() { self.was_reached.load(Ordering::Relaxed) } else { call.repeatable }
    }

    /// Whether nothing will go better with the next request than it did with this one.
    pub(crate) fn is_hopeless(&self, failure: &Failure) -> bool {
        let was_reached = self.was_reached.load(Ordering::Relaxed);
        failure.exit == Exit::Unreachable && (failure.status.is_some() || !was_reached)
    }

    /// The body of an answer that grants.
    ///
    /// # Errors
    /// If there is no answer, or it is a refusal.
    pub(crate) async fn get(&self, call: &Call) -> Outcome<Value> {
        self.ask(call).await?.granted()
    }

    /// The same for what makes or changes something, and cannot be done twice. If it was repeated and the hub says that it
    /// is there already (409), or is not as it was (412), that may be our own doing, of which the answer was lost: it is
    /// if what is there now has all that was `wanted`.
    ///
    /// # Errors
    /// If there is no answer, or it is a refusal that is meant.
    async fn put(&self, call: &Call, wanted: &Value) -> Outcome<Value> {
        let answer = self.ask(call).await?;
        if answer.is_repeated && matches!(answer.status, 409 | 412) {
            let found = self.get(&Call::new(Method::GET, call.kind, call.path.as_str())).await;
            if let Some(found) = found.ok().filter(|found| holds(found, wanted)) {
                return Ok(found);
            }
        }
        answer.granted()
    }

    /// Deletes, whatever it is like by now. If that was repeated, what is not there any more has been deleted.
    ///
    /// # Errors
    /// If there is no answer, or nothing to delete.
    async fn delete(&self, call: Call) -> Outcome {
        let answer = self.ask(&call.header("if-match", "*")).await?;
        if answer.is_repeated && answer.status == 404 {
            return Ok(());
        }
        answer.granted().map(|_| ())
    }

    async fn once(&self, call: &Call) -> Result<Answer, Broken> {
        let address = format!("{}{}?api-version={API_VERSION}{}", self.base, call.path, call.parameters);
        let mut request = self.http.request(call.method.clone(), address).timeout(call.timeout);
        let mut token =
            HeaderValue::from_str(&self.tokens.now()).map_err(|_| Broken::Malformed("a bad token"))?;
        token.set_sensitive(true);
        request = request.header(AUTHORIZATION, token);
        for (name, value) in &call.headers {
            request = request.header(HeaderName::from_static(name), value);
        }
        match &call.body {
            Some(body) => {
                request =
                    request.header("content-type", "application/json; charset=utf-8").body(body.to_string());
            }
            // The hub wants a length of everything that might have a body.
            None if call.method != Method::GET => request = request.header("content-length", "0"),
            None => {}
        }
        Answer::read(request.send().await.map_err(Broken::Connection)?).await
    }

    /// The address is left out: it holds nothing that the operator does not know.
    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let mut cause = error.source();
        let mut text = String::new();
        while let Some(error) = cause {
            text = error.to_string();
            cause = error.source();
        }
        let what = if error.is_timeout() { "no answer in time".to_owned() } else { text };
        let remedy = if what.contains("certificate") || what.contains("UnknownIssuer") {
            "name the certificate authority with --ca-file or $TWINBOOT_CA_FILE"
        } else {
            "is HostName right, and the network there?"
        };
        let text = format!("{} cannot be reached: {what}", self.host);
        // Where no connection came about nothing was asked.
        Failure { is_unsure: !error.is_connect(), ..Failure::unreachable(text) }.remedy(remedy)
    }
}
