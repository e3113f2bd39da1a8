//! The hub's own errors: an HTTP status, a six-digit code and its name. Not for faults of the emulator itself.
//! Made by the registry, the twins and the queries; turned into REST answers by `rest` and into twin replies by
//! `mqtt`.
//!
//! A code is its HTTP status times a thousand plus a number (see the `ErrorCode` enum of the C# service SDK).

use std::fmt;

use serde_json::{Value, json};

use crate::clock;
use crate::random;

/// Why the hub refuses something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// A value, a document or a query that cannot be.
    ArgumentInvalid,
    /// The operation itself makes no sense here.
    InvalidOperation,
    /// The token is good but its policy lacks the right.
    Forbidden,
    /// No token, or one that is wrong or expired.
    Unauthorized,
    /// There is no such path or configuration.
    NotFound,
    /// There is no such device.
    DeviceNotFound,
    /// The device is not connected or does not listen.
    DeviceNotOnline,
    /// There is one by this name already.
    AlreadyExists,
    /// The ETag or version asked for is not the present one.
    PreconditionFailed,
    /// The payload is larger than allowed.
    MessageTooLarge,
    /// Too many requests.
    Throttled,
    /// The device answered with something that is not JSON.
    BadDeviceResponse,
    /// A fault of the service.
    ServerError,
    /// The service is away for a while.
    ServiceUnavailable,
    /// The device did not answer in time.
    GatewayTimeout,
}

impl Code {
    /// The six digits.
    pub fn number(self) -> u32 {
        match self {
            Code::ArgumentInvalid => 400_004,
            Code::InvalidOperation => 400_003,
            Code::Forbidden => 401_002,
            Code::Unauthorized => 401_003,
            Code::NotFound => 404_000,
            Code::DeviceNotFound => 404_001,
            Code::DeviceNotOnline => 404_103,
            Code::AlreadyExists => 409_001,
            Code::PreconditionFailed => 412_001,
            Code::MessageTooLarge => 413_001,
            Code::Throttled => 429_001,
            Code::ServerError => 500_001,
            Code::BadDeviceResponse => 502_000,
            Code::ServiceUnavailable => 503_001,
            Code::GatewayTimeout => 504_101,
        }
    }

    /// The name in the `iothub-errorcode` header. The C# SDK insists that it agrees with the number.
    pub fn name(self) -> &'static str {
        match self {
            Code::ArgumentInvalid => "ArgumentInvalid",
            Code::InvalidOperation => "InvalidOperation",
            Code::Forbidden => "IotHubUnauthorizedAccess",
            Code::Unauthorized => "IotHubUnauthorized",
            Code::NotFound => "GenericNotFound",
            Code::DeviceNotFound => "DeviceNotFound",
            Code::DeviceNotOnline => "DeviceNotOnline",
            Code::AlreadyExists => "DeviceAlreadyExists",
            Code::PreconditionFailed => "PreconditionFailed",
            Code::MessageTooLarge => "MessageTooLarge",
            Code::Throttled => "ThrottlingException",
            Code::ServerError => "ServerError",
            Code::BadDeviceResponse => "GenericBadGateway",
            Code::ServiceUnavailable => "ServiceUnavailable",
            Code::GatewayTimeout => "GatewayTimeout",
        }
    }

    /// The HTTP status, which is also the status in the topic of a twin reply.
    pub fn status(self) -> u16 {
        u16::try_from(self.number() / 1000).unwrap_or(500)
    }

    /// The code that a fault switch stands for when it is given as an HTTP status.
    pub fn from_status(status: u16) -> Code {
        match status {
            400 => Code::ArgumentInvalid,
            401 => Code::Unauthorized,
            404 => Code::NotFound,
            412 => Code::PreconditionFailed,
            413 => Code::MessageTooLarge,
            429 => Code::Throttled,
            503 => Code::ServiceUnavailable,
            504 => Code::GatewayTimeout,
            _ => Code::ServerError,
        }
    }
}

/// A refusal with its reason in words.
#[derive(Clone, Debug)]
pub struct Error {
    /// Which refusal.
    pub code: Code,
    /// Why, for people.
    pub message: String,
}

impl Error {
    /// A refusal.
    pub fn new(code: Code, message: impl Into<String>) -> Error {
        Error { code, message: message.into() }
    }

    /// A 400 about a value.
    pub(crate) fn invalid(message: impl Into<String>) -> Error {
        Error::new(Code::ArgumentInvalid, message)
    }

    /// A 404 about a device.
    pub(crate) fn no_device(id: &str) -> Error {
        Error::new(Code::DeviceNotFound, format!("there is no device {id}"))
    }

    /// The JSON that names this error: the body of a twin reply, and the inner text of a REST error.
    /// `errorCode` must be there and not zero: the Node SDK looks at nothing else.
    pub(crate) fn body(&self) -> Value {
        json!({
            "errorCode": self.code.number(),
            "trackingId": format!("{}-G:0-TimeStamp:{}", random::token(16), clock::now()),
            "message": self.message,
            "timestampUtc": clock::now(),
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.code.number(), self.code.name(), self.message)
    }
}

impl std::error::Error for Error {}
