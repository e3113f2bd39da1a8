//! An Azure IoT Hub for one machine.
