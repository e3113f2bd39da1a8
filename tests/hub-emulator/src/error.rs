//! The hub's own errors: an HTTP status, a six-digit code and its name. Not for faults of the emulator itself.
//! Made by the registry, the twins and the queries; turned into REST answers by `rest` and into twin replies by
//! `mqtt`.
//!
//! A code is its HTTP status times a thousand plus a number. Source: "Troubleshoot Azure IoT Hub error codes" and the
//! `ErrorCode` enum of the C# service SDK.

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
    /// One identity twice in one bulk request.
    DefinedTwice,
    /// Some operation of a bulk request failed; the body says which.
    BulkFailure,
    /// A configuration's target condition that is none.
    InvalidTargetCondition,
    /// A configuration's content that cannot be.
    InvalidContent,
    /// A configuration's content was to be changed.
    ImmutableContent,
    /// A configuration's metric that is no query, or one too many.
    InvalidMetric,
    /// The token is good but its policy lacks the right.
    Forbidden,
    /// No token, or one that is wrong or expired.
    Unauthorized,
    /// There is no such path.
    NotFound,
    /// There is no such device.
    DeviceNotFound,
    /// There is no such job.
    JobNotFound,
    /// There is no such module on the device.
    ModuleNotFound,
    /// The device is not connected or does not listen.
    DeviceNotOnline,
    /// There is no such configuration.
    ConfigurationNotFound,
    /// There is a device by this name already.
    AlreadyExists,
    /// There is a job by this name already.
    JobAlreadyExists,
    /// There is a module by this name on the device already.
    ModuleAlreadyExists,
    /// There is a configuration by this name already.
    ConfigurationAlreadyExists,
    /// The ETag or version asked for is not the present one.
    PreconditionFailed,
    /// The message is not held with this lock.
    LockLost,
    /// The job is not in a state for this.
    JobPrecondition,
    /// The payload is larger than allowed.
    MessageTooLarge,
    /// More messages than may wait for a device.
    QueueFull,
    /// More devices than one request may hold.
    TooManyDevices,
    /// More modules than a device may have.
    TooManyModules,
    /// More configurations than a hub may have.
    TooManyConfigurations,
    /// Too many requests.
    Throttled,
    /// More jobs at once than a hub may run.
    TooManyJobs,
    /// A fault of the service.
    ServerError,
    /// The job was cancelled before this was done.
    JobCancelled,
    /// A part of the service that is not emulated.
    NotImplemented,
    /// The device answered with something that is not JSON.
    BadDeviceResponse,
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
            Code::DefinedTwice => 400_011,
            Code::BulkFailure => 400_013,
            Code::InvalidTargetCondition => 400_401,
            Code::InvalidContent => 400_402,
            Code::ImmutableContent => 400_403,
            Code::InvalidMetric => 400_404,
            Code::Forbidden => 401_002,
            Code::Unauthorized => 401_003,
            Code::NotFound => 404_000,
            Code::DeviceNotFound => 404_001,
            Code::JobNotFound => 404_002,
            Code::ModuleNotFound => 404_010,
            Code::DeviceNotOnline => 404_103,
            Code::ConfigurationNotFound => 404_301,
            Code::AlreadyExists => 409_001,
            Code::JobAlreadyExists => 409_104,
            Code::ModuleAlreadyExists => 409_301,
            Code::ConfigurationAlreadyExists => 409_401,
            Code::PreconditionFailed => 412_001,
            Code::LockLost => 412_002,
            Code::JobPrecondition => 412_003,
            Code::MessageTooLarge => 413_001,
            Code::QueueFull => 403_004,
            Code::TooManyDevices => 413_002,
            Code::TooManyModules => 413_003,
            Code::TooManyConfigurations => 413_101,
            Code::Throttled => 429_001,
            Code::TooManyJobs => 429_004,
            Code::ServerError => 500_001,
            Code::JobCancelled => 500_002,
            Code::NotImplemented => 501_000,
            Code::BadDeviceResponse => 502_000,
            Code::ServiceUnavailable => 503_001,
            Code::GatewayTimeout => 504_101,
        }
    }

    /// The name in the header iothub-errorcode. The C# SDK insists that it agrees with the number.
    pub fn name(self) -> &'static str {
        match self {
            Code::ArgumentInvalid => "ArgumentInvalid",
            Code::InvalidOperation => "InvalidOperation",
            Code::DefinedTwice => "DeviceDefinedMultipleTimes",
            Code::BulkFailure => "BulkRegistryOperationFailure",
            Code::InvalidTargetCondition => "InvalidConfigurationTargetCondition",
            Code::InvalidContent => "InvalidConfigurationContent",
            Code::ImmutableContent => "CannotModifyImmutableConfigurationContent",
            Code::InvalidMetric => "InvalidConfigurationCustomMetricsQuery",
            Code::Forbidden => "IotHubUnauthorizedAccess",
            Code::Unauthorized => "IotHubUnauthorized",
            Code::NotFound => "GenericNotFound",
            Code::DeviceNotFound => "DeviceNotFound",
            Code::JobNotFound => "JobNotFound",
            Code::ModuleNotFound => "ModuleNotFound",
            Code::DeviceNotOnline => "DeviceNotOnline",
            Code::ConfigurationNotFound => "ConfigurationNotFound",
            Code::AlreadyExists => "DeviceAlreadyExists",
            Code::JobAlreadyExists => "JobAlreadyExists",
            Code::ModuleAlreadyExists => "ModuleAlreadyExistsOnDevice",
            Code::ConfigurationAlreadyExists => "ConfigurationAlreadyExists",
            Code::PreconditionFailed => "PreconditionFailed",
            Code::LockLost => "DeviceMessageLockLost",
            Code::JobPrecondition => "JobRunPreconditionFailed",
            Code::MessageTooLarge => "MessageTooLarge",
            Code::QueueFull => "DeviceMaximumQueueDepthExceeded",
            Code::TooManyDevices => "TooManyDevices",
            Code::TooManyModules => "TooManyModulesOnDevice",
            Code::TooManyConfigurations => "ConfigurationCountLimitExceeded",
            Code::Throttled => "ThrottlingException",
            Code::TooManyJobs => "ThrottlingMaxActiveJobCountExceeded",
            Code::ServerError => "ServerError",
            Code::JobCancelled => "JobCancelled",
            Code::NotImplemented => "GenericNotImplemented",
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
    /// For a 429: in how many seconds to come again.
    pub retry_after: Option<u64>,
}

impl Error {
    /// A refusal.
    pub fn new(code: Code, message: impl Into<String>) -> Error {
        Error { code, message: message.into(), retry_after: None }
    }

    /// A 400 about a value.
    pub(crate) fn invalid(message: impl Into<String>) -> Error {
        Error::new(Code::ArgumentInvalid, message)
    }

    /// A 404 about a device or, where the key is `device/module`, a module.
    pub(crate) fn no_device(key: &str) -> Error {
        match key.split_once('/') {
            Some((device, module)) => {
                Error::new(Code::ModuleNotFound, format!("there is no module {module} on a device {device}"))
            }
            None => Error::new(Code::DeviceNotFound, format!("there is no device {key}")),
        }
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
