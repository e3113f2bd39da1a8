'use strict';
// The vendor's Node SDKs, unchanged, doing what the firmware update tutorial of 2019 does on both sides: azure-iothub
// creates an automatic configuration with five metrics and reads them, azure-iot-device carries the update out in
// name. Started by run.sh, which sets SERVICE, DEVICE_HOST, EMULATOR and NODE_EXTRA_CA_CERTS. One line per check.

const assert = require('assert');
const https = require('https');
const { Client: DeviceClient } = require('azure-iot-device');
const { Mqtt } = require('azure-iot-device-mqtt');
const { Client: ServiceClient, Registry } = require('azure-iothub');

const DEVICE = 'MyFirmwareUpdateDevice';
const CONFIGURATION = 'firmware285';
const PATIENCE = 20000;

const registry = Registry.fromConnectionString(process.env.SERVICE);
const service = ServiceClient.fromConnectionString(process.env.SERVICE);

// Callbacks, promises and events, all as promises that end.
const called = (start) => limited(new Promise((resolve, reject) => {
  start((error, result) => (error ? reject(error) : resolve(result)));
}));

const limited = (promise) => {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error('nothing happened in time')), PATIENCE);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
};

// Values that arrive one by one, and can be awaited one by one.
class Arrivals {
  constructor() {
    this.values = [];
    this.waiting = [];
  }

  put(value) {
    const next = this.waiting.shift();
    if (next) next(value); else this.values.push(value);
  }

  next() {
    if (this.values.length > 0) return Promise.resolve(this.values.shift());
    return limited(new Promise((resolve) => this.waiting.push(resolve)));
  }
}

const door = (path, method, body) => limited(new Promise((resolve, reject) => {
  const request = https.request(process.env.EMULATOR + path, { method }, (answer) => {
    let text = '';
    answer.on('data', (piece) => { text += piece; });
    answer.on('end', () => resolve(text ? JSON.parse(text) : null));
  });
  request.on('error', reject);
  request.end(body ? JSON.stringify(body) : undefined);
}));

const metric = (condition) =>
  `SELECT deviceId FROM devices WHERE configurations.[[${CONFIGURATION}]].status='Applied' AND ${condition}`;
const status = (word) => `properties.reported.firmware.fwUpdateStatus='${word}'`;
const queries = {
  current: metric(status('current')),
  applying: metric(`( ${status('downloading')} OR ${status('verifying')} OR ${status('applying')})`),
  rebooting: metric(status('rebooting')),
  error: metric(status('error')),
  rolledback: metric(status('rolledback')),
};

const firmware = (version) => ({
  fwVersion: version,
  fwPackageURI: 'https://secureuri/package.bin',
  fwPackageCheckValue: '123456abcde',
});

const configuration = () => ({
  id: CONFIGURATION,
  content: { deviceContent: { 'properties.desired.firmware': firmware('2.8.5') } },
  targetCondition: "tags.devicetype = 'chiller'",
  priority: 20,
  metrics: { queries },
});

// What the service sees: each counter, of one device at most, as a word.
async function standing() {
  const found = (await called((done) => registry.getConfiguration(CONFIGURATION, done)));
  const system = found.systemMetrics.results;
  const counters = found.metrics.results;
  const on = Object.keys(counters).filter((name) => counters[name] === 1);
  return `${system.targetedCount}/${system.appliedCount} ${on.join(' ')}`.trim();
}

let client;
let twin;
const desired = new Arrivals();
const methods = new Arrivals();

const report = (part) => called((done) => twin.properties.reported.update({ firmware: part }, done));

const checks = {
  async 'a device is created, tagged, and not created twice'() {
    await called((done) => registry.create({ deviceId: DEVICE }, done));
    await assert.rejects(
      called((done) => registry.create({ deviceId: DEVICE }, done)),
      { name: 'DeviceAlreadyExistsError' },
    );
    const tags = { tags: { devicetype: 'chiller' } };
    const updated = await called((done) => registry.updateTwin(DEVICE, tags, '*', done));
    assert.deepStrictEqual(updated.tags, { devicetype: 'chiller' });
    await assert.rejects(
      called((done) => registry.updateTwin(DEVICE, tags, 'AAAAAAAAAAA=', done)),
      { name: 'InvalidEtagError' },
    );
  },

  async 'the device starts and reports its firmware'() {
    const device = await called((done) => registry.get(DEVICE, done));
    const key = device.authentication.symmetricKey.primaryKey;
    const text = `HostName=${process.env.DEVICE_HOST};DeviceId=${DEVICE};SharedAccessKey=${key}`;
    client = DeviceClient.fromConnectionString(text, Mqtt);
    await called((done) => client.open(done));
    client.onDeviceMethod('reboot', (request, response) => {
      methods.put(request.payload);
      response.send(200, 'Reboot started', () => {});
    });
    twin = await called((done) => client.getTwin(done));
    await report({
      currentFwVersion: '1.0.0',
      pendingFwVersion: '',
      fwUpdateStatus: 'current',
      fwUpdateSubstatus: '',
      lastFwUpdateStartTime: '',
      lastFwUpdateEndTime: '',
    });
    twin.on('properties.desired.firmware', (wanted) => desired.put(wanted));
  },

  async 'the configuration is created once and reaches the device'() {
    await called((done) => registry.addConfiguration(configuration(), done));
    assert.deepStrictEqual(await desired.next(), firmware('2.8.5'));
    assert.strictEqual(await standing(), '1/1 current');
    await assert.rejects(
      called((done) => registry.addConfiguration(configuration(), done)),
      { name: 'DeviceAlreadyExistsError' },
    );
  },

  async 'the metrics follow every phase of the update'() {
    await report({
      pendingFwVersion: '2.8.5',
      fwUpdateStatus: 'current',
      fwUpdateSubstatus: '',
      lastFwUpdateStartTime: new Date().toISOString(),
    });
    for (const [word, counter] of [
      ['downloading', 'applying'],
      ['verifying', 'applying'],
      ['applying', 'applying'],
      ['rebooting', 'rebooting'],
    ]) {
      await report({ fwUpdateStatus: word, fwUpdateSubstatus: 'Start' });
      await report({ fwUpdateStatus: word, fwUpdateSubstatus: 'Finished' });
      assert.strictEqual(await standing(), `1/1 ${counter}`);
    }
    await report({
      currentFwVersion: '2.8.5',
      pendingFwVersion: '',
      fwUpdateStatus: 'current',
      fwUpdateSubstatus: '',
      lastFwUpdateEndTime: new Date().toISOString(),
    });
    assert.strictEqual(await standing(), '1/1 current');
    await report({ fwUpdateStatus: 'error', fwUpdateSubstatus: 'Image verification failed' });
    assert.strictEqual(await standing(), '1/1 error');
    await report({ fwUpdateStatus: 'rolledback', fwUpdateSubstatus: 'Rolled back to: 1.0.0' });
    assert.strictEqual(await standing(), '1/1 rolledback');
  },

  async 'a query finds the device by what it reported'() {
    const text = `SELECT * FROM devices WHERE ${status('rolledback')} AND tags.devicetype = 'chiller'`;
    const query = registry.createQuery(text, 10);
    const found = await called((done) => query.nextAsTwin(done));
    assert.deepStrictEqual(found.map((one) => one.deviceId), [DEVICE]);
    assert.strictEqual(found[0].properties.reported.firmware.currentFwVersion, '2.8.5');
  },

  async 'a direct method goes there and back'() {
    const call = { methodName: 'reboot', payload: { when: 'now' }, responseTimeoutInSeconds: 30 };
    const answer = await called((done) => service.invokeDeviceMethod(DEVICE, call, done));
    assert.deepStrictEqual([answer.status, answer.payload], [200, 'Reboot started']);
    assert.deepStrictEqual(await methods.next(), { when: 'now' });
    await assert.rejects(called((done) => service.invokeDeviceMethod('nobody', call, done)), /Not found/i);
  },

  async 'a throttled report is an error and the next one is not'() {
    await door('/emulator/faults', 'POST', { fault: 'failTwin', status: 429, target: DEVICE, times: 1 });
    await assert.rejects(report({ unseen: true }));
    await report({ seen: true });
    const now = await called((done) => registry.getTwin(DEVICE, done));
    assert.strictEqual(now.properties.reported.firmware.seen, true);
    assert.strictEqual(now.properties.reported.firmware.unseen, undefined);
  },

  async 'after a dropped link the stored session still serves the device'() {
    const before = await sessions();
    assert.deepStrictEqual(await door(`/emulator/devices/${DEVICE}/drop`, 'POST'), { dropped: true });
    // The SDK says nothing when it has come back by itself. A call that may wait for the device does.
    const call = { methodName: 'reboot', payload: 1, connectTimeoutInSeconds: 20, responseTimeoutInSeconds: 20 };
    const answer = await called((done) => service.invokeDeviceMethod(DEVICE, call, done));
    assert.strictEqual(answer.status, 200);
    assert.deepStrictEqual(await sessions(), before);
    const patch = { properties: { desired: { firmware: { fwVersion: '2.8.6' } } } };
    await called((done) => registry.updateTwin(DEVICE, patch, '*', done));
    assert.strictEqual((await desired.next()).fwVersion, '2.8.6');
    await report({ fwUpdateStatus: 'current' });
    assert.strictEqual(await standing(), '1/1 current');
  },

  async 'the configuration is removed'() {
    await called((done) => registry.removeConfiguration(CONFIGURATION, done));
    const now = await called((done) => registry.getTwin(DEVICE, done));
    assert.strictEqual(now.properties.desired.firmware, undefined);
    await called((done) => client.close(done));
    await called((done) => registry.delete(DEVICE, done));
  },
};

async function sessions() {
  return (await door('/emulator/state', 'GET')).devices[DEVICE].subscriptions;
}

async function main() {
  for (const [name, check] of Object.entries(checks)) {
    try {
      await check();
      console.log(`ok      node    ${name}`);
    } catch (error) {
      console.error(error);
      console.log(`FAILED  node    ${name}`);
    }
  }
}

main().finally(() => process.exit(0));
