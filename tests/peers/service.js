'use strict';
// The vendor's Node service SDK, unchanged, against a running emulator: every call of azure-iothub that the emulator
// claims. azure-iot-device lends devices that answer. Started by run.sh, which sets SERVICE, DEVICE_HOST, EMULATOR and
// NODE_EXTRA_CA_CERTS. One line per check.

const assert = require('assert');
const https = require('https');
const { Client: DeviceClient } = require('azure-iot-device');
const { Mqtt } = require('azure-iot-device-mqtt');
const { Client, DigitalTwinClient, IoTHubTokenCredentials, JobClient, Registry } = require('azure-iothub');

const PATIENCE = 20000;
const SERVICE = process.env.SERVICE;

const registry = Registry.fromConnectionString(SERVICE);
const service = Client.fromConnectionString(SERVICE);
const jobs = JobClient.fromConnectionString(SERVICE);
const digitalTwins = new DigitalTwinClient(new IoTHubTokenCredentials(SERVICE));

const limited = (promise) => {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error('nothing happened in time')), PATIENCE);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
};

const called = (start) => limited(new Promise((resolve, reject) => {
  start((error, result) => (error ? reject(error) : resolve(result)));
}));

// The call must fail with an error of this class or text.
const refused = (expected, start) => assert.rejects(
  called(start),
  typeof expected === 'string' ? { name: expected } : expected,
);

async function until(what, condition) {
  const deadline = Date.now() + PATIENCE;
  for (;;) {
    const found = await condition();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`waited for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

// All rows of a query, and the number of pages.
async function rows(query) {
  const found = [];
  let pages = 0;
  do {
    found.push(...await called((done) => query.next(query.continuationToken, done)));
    pages += 1;
  } while (query.hasMoreResults);
  return [found, pages];
}

const ask = async (text, size) => rows(registry.createQuery(text, size));

const create = (id, more) => called((done) => registry.create({ deviceId: id, ...more }, done));
const tag = (id, tags) => called((done) => registry.updateTwin(id, { tags }, '*', done));
const twinOf = (id) => called((done) => registry.getTwin(id, done));

// The desired properties without what the hub adds.
async function wanted(id) {
  const { desired } = (await twinOf(id)).properties;
  return Object.fromEntries(Object.entries(desired).filter(([name]) => !name.startsWith('$')));
}

// A device that answers the methods go (200) and fail (500).
async function answering(id) {
  const device = await called((done) => registry.get(id, done));
  const key = device.authentication.symmetricKey.primaryKey;
  const client = DeviceClient.fromConnectionString(
    `HostName=${process.env.DEVICE_HOST};DeviceId=${id};SharedAccessKey=${key}`, Mqtt);
  await called((done) => client.open(done));
  for (const [name, status] of [['go', 200], ['fail', 500], ['thermostat*reset', 200]]) {
    client.onDeviceMethod(name, (request, response) => response.send(status, { name, got: request.payload }, () => {}));
  }
  // The SDK subscribes in the background.
  await until('the subscription', async () => {
    try {
      const call = { methodName: 'go', payload: 0, responseTimeoutInSeconds: 5 };
      return await called((done) => service.invokeDeviceMethod(id, call, done));
    } catch (error) {
      return null;
    }
  });
  return client;
}

const close = (client) => called((done) => client.close(done));

const key = (letter) => Buffer.from(letter.repeat(32)).toString('base64');

const checks = {
  async 'devices are created, changed, read and deleted'() {
    const given = { primaryKey: key('a'), secondaryKey: key('b') };
    const made = await create('dev-1', { status: 'enabled', authentication: { symmetricKey: given } });
    assert.deepStrictEqual(made.authentication.symmetricKey, given);
    assert.strictEqual(made.authentication.type, 'sas');
    await refused('DeviceAlreadyExistsError', (done) => registry.create({ deviceId: 'dev-1' }, done));
    // An update without keys sends empty ones; the device keeps its own.
    const sold = { deviceId: 'dev-1', status: 'disabled', statusReason: 'test' };
    const changed = await called((done) => registry.update(sold, done));
    assert.deepStrictEqual([changed.status, changed.statusReason], ['disabled', 'test']);
    assert.deepStrictEqual(changed.authentication.symmetricKey, given);
    const read = await called((done) => registry.get('dev-1', done));
    assert.deepStrictEqual([read.deviceId, read.generationId], ['dev-1', made.generationId]);
    await refused(/Not found/i, (done) => registry.get('nobody', done));
    await refused('ArgumentError', (done) => registry.create({ deviceId: 'not allowed' }, done));
    await called((done) => registry.delete('dev-1', done));
    await refused(/Not found/i, (done) => registry.get('dev-1', done));
  },

  async 'devices can have certificates'() {
    const print = 'A1'.repeat(20);
    const one = await create('x509-1', { authentication: { x509Thumbprint: { primaryThumbprint: print } } });
    assert.strictEqual(one.authentication.type, 'selfSigned');
    assert.strictEqual(one.authentication.x509Thumbprint.primaryThumbprint, print);
    const two = await create('x509-2', { authentication: { type: 'certificateAuthority' } });
    assert.strictEqual(two.authentication.type, 'certificateAuthority');
    const short = { type: 'selfSigned', x509Thumbprint: { primaryThumbprint: 'short' } };
    await refused('ArgumentError', (done) => registry.create({ deviceId: 'x509-3', authentication: short }, done));
    const all = await called((done) => registry.list(done));
    assert.deepStrictEqual(all.map((device) => device.deviceId), ['x509-1', 'x509-2']);
    const counts = await called((done) => registry.getRegistryStatistics(done));
    assert.deepStrictEqual(counts, { totalDeviceCount: 2, enabledDeviceCount: 2, disabledDeviceCount: 0 });
  },

  async 'many at once are added, changed and removed'() {
    const devices = [1, 2, 3].map((n) => ({ deviceId: `bulk-${n}`, status: 'enabled' }));
    const added = await called((done) => registry.addDevices(devices, done));
    assert.deepStrictEqual(added, { isSuccessful: true, errors: [], warnings: [] });
    // What failed in part is an error of this SDK.
    await refused('ArgumentError', (done) => registry.addDevices(devices.slice(0, 1), done));
    const disabled = devices.map((device) => ({ ...device, status: 'disabled' }));
    assert((await called((done) => registry.updateDevices(disabled, true, done))).isSuccessful);
    const read = await called((done) => registry.get('bulk-2', done));
    assert.strictEqual(read.status, 'disabled');
    const enabled = [{ ...read, status: 'enabled' }];
    assert((await called((done) => registry.updateDevices(enabled, false, done))).isSuccessful);
    await refused('ArgumentError', (done) => registry.updateDevices([{ ...read, status: 'disabled' }], false, done));
    assert.strictEqual((await called((done) => registry.get('bulk-2', done))).status, 'enabled');
    assert((await called((done) => registry.removeDevices(devices, true, done))).isSuccessful);
    await refused('ArgumentError', (done) => registry.removeDevices(devices, true, done));
  },

  async 'modules are identities with twins of their own'() {
    const camera = { deviceId: 'x509-1', moduleId: 'camera', managedBy: 'me' };
    const made = await called((done) => registry.addModule(camera, done));
    assert.deepStrictEqual([made.moduleId, made.managedBy], ['camera', 'me']);
    await refused('DeviceAlreadyExistsError', (done) => registry.addModule(camera, done));
    const all = await called((done) => registry.getModulesOnDevice('x509-1', done));
    assert.deepStrictEqual(all.map((module) => module.moduleId), ['camera']);
    const changed = await called((done) => registry.updateModule({ ...made, managedBy: 'you' }, done));
    assert.strictEqual(changed.managedBy, 'you');
    await refused('InvalidEtagError', (done) => registry.updateModule({ ...made, managedBy: 'they' }, done));
    await called((done) => registry.updateModule({ ...made, managedBy: 'forced' }, true, done));
    assert.strictEqual((await called((done) => registry.getModule('x509-1', 'camera', done))).managedBy, 'forced');
    const patch = { tags: { a: 1 }, properties: { desired: { zoom: 2 } } };
    const twin = await called((done) => registry.updateModuleTwin('x509-1', 'camera', patch, '*', done));
    assert.deepStrictEqual([twin.moduleId, twin.tags, twin.properties.desired.zoom], ['camera', { a: 1 }, 2]);
    const stale = 'AAAAAAAAAAk=';
    await refused('InvalidEtagError', (done) => registry.updateModuleTwin('x509-1', 'camera', patch, stale, done));
    const read = await called((done) => registry.getModuleTwin('x509-1', 'camera', done));
    assert.strictEqual(read.etag, twin.etag);
    const [found] = await ask('SELECT * FROM devices.modules WHERE devices.modules.tags.a = 1');
    assert.deepStrictEqual(found.map((row) => row.moduleId), ['camera']);
    await refused(/Not found/i, (done) => service.invokeDeviceMethod('x509-1', 'camera', { methodName: 'zoom' }, done));
    await refused('InvalidEtagError', (done) => registry.removeModule(made, done));
    await called((done) => registry.removeModule('x509-1', 'camera', done));
    await refused(/Not found/i, (done) => registry.getModule('x509-1', 'camera', done));
  },

  async 'twins are merged and guarded'() {
    await create('twin-1');
    const twin = await twinOf('twin-1');
    const patch = { tags: { a: { b: 1, c: 2 } }, properties: { desired: { list: [1, 2] } } };
    const updated = await called((done) => twin.update(patch, done));
    assert.deepStrictEqual([updated.tags, updated.properties.desired.list], [{ a: { b: 1, c: 2 } }, [1, 2]]);
    assert.strictEqual(updated.properties.desired.$version, 2);
    const less = { tags: { a: { b: null } } };
    const next = await called((done) => registry.updateTwin('twin-1', less, updated.etag, done));
    assert.deepStrictEqual(next.tags, { a: { c: 2 } });
    await refused('InvalidEtagError', (done) => registry.updateTwin('twin-1', { tags: { x: 1 } }, updated.etag, done));
    // Already quoted is as good.
    await called((done) => registry.updateTwin('twin-1', { tags: { x: 1 } }, `"${next.etag}"`, done));
    for (const desired of [{ 'a.b': 1 }, { $a: 1 }, { text: 'x'.repeat(4097) }, { n: 4503599627370497 }]) {
      await refused('ArgumentError', (done) => registry.updateTwin('twin-1', { properties: { desired } }, '*', done));
    }
    assert.deepStrictEqual(await wanted('twin-1'), { list: [1, 2] });
    assert.deepStrictEqual((await twinOf('twin-1')).tags, { a: { c: 2 }, x: 1 });
  },

  async 'queries find, count, group and come in pages'() {
    for (let n = 0; n < 5; n += 1) {
      await create(`query-${n}`);
      await tag(`query-${n}`, { site: n < 2 ? 'north' : 'south', load: n * 1.5 });
    }
    const mine = "STARTSWITH(deviceId, 'query-')";
    for (const [condition, expected] of [
      ["tags.site = 'north' OR tags.load >= 6", '014'],
      ["NOT (tags.site = 'north') AND tags.load <> 3", '34'],
      ["deviceId IN ['query-0', 'query-3']", '03'],
      ['IS_DEFINED(tags.site) AND tags.load / 1.5 = 2', '2'],
      ["CONTAINS(tags.site, 'ort') AND ENDSWITH(deviceId, '1')", '1'],
    ]) {
      const [found] = await ask(`SELECT deviceId FROM devices WHERE ${mine} AND (${condition})`);
      assert.strictEqual(found.map((row) => row.deviceId.slice(-1)).join(''), expected, condition);
    }
    const from = `FROM devices WHERE ${mine}`;
    assert.deepStrictEqual((await ask(`SELECT COUNT() AS n, MAX(tags.load) AS top ${from}`))[0], [{ n: 5, top: 6 }]);
    const [groups] = await ask(`SELECT tags.site AS site, COUNT() AS n ${from} GROUP BY tags.site`);
    assert.deepStrictEqual(groups, [{ site: 'north', n: 2 }, { site: 'south', n: 3 }]);
    const [found, pages] = await ask(`SELECT deviceId ${from}`, 2);
    assert.deepStrictEqual([found.length, pages], [5, 3]);
    const query = registry.createQuery(`SELECT * ${from}`, 3);
    const twins = await called((done) => query.nextAsTwin(done));
    assert.deepStrictEqual([twins.length, query.hasMoreResults], [3, true]);
    // A row is a twin that can be worked with.
    const updated = await called((done) => twins[0].update({ tags: { seen: true } }, done));
    assert.strictEqual(updated.tags.seen, true);
    await refused('ArgumentError', (done) => registry.createQuery('SELECT nothing').next(done));
  },

  async 'methods go there and back or say why not'() {
    await create('method-1');
    const call = (methodName, payload, more) => (done) => service.invokeDeviceMethod(
      'method-1', { methodName, payload, responseTimeoutInSeconds: 5, ...more }, done);
    await refused(/Not found/i, call('go'));
    const client = await answering('method-1');
    for (const payload of [{ a: [1, null] }, 'text', 42, null]) {
      const answer = await called(call('go', payload));
      assert.deepStrictEqual([answer.status, answer.payload], [200, { name: 'go', got: payload }]);
    }
    assert.strictEqual((await called(call('fail', 1))).status, 500);
    await refused('ArgumentError', call('go', 1, { responseTimeoutInSeconds: 301 }));
    // Disabled, it is cut off and stays away.
    await called((done) => registry.update({ deviceId: 'method-1', status: 'disabled' }, done));
    await until('the device to be cut off', async () => {
      const now = await called((done) => registry.get('method-1', done));
      return now.connectionState === 'Disconnected';
    });
    await refused(/Not found/i, call('go'));
    await close(client).catch(() => {});
  },

  async 'configurations win by priority, have metrics and make room again'() {
    await create('conf-1');
    await tag('conf-1', { role: 'node' });
    const make = (id, priority, version, metrics) => called((done) => registry.addConfiguration({
      id, priority, targetCondition: "tags.role = 'node'", labels: { made: 'here' },
      content: { deviceContent: { 'properties.desired.fw': { version } } }, metrics: { queries: metrics || {} },
    }, done));
    const low = await make('low', 1, '1', {
      rows: "SELECT deviceId FROM devices WHERE configurations.[[low]].status = 'Applied'",
      count: "SELECT COUNT() AS n FROM devices WHERE tags.role = 'node'",
    });
    assert.deepStrictEqual(low.metrics.results, { rows: 1, count: 1 });
    assert.deepStrictEqual(low.systemMetrics.results, { targetedCount: 1, appliedCount: 1 });
    await refused('DeviceAlreadyExistsError', (done) => registry.addConfiguration(low, done));
    await make('high', 5, '2');
    assert.deepStrictEqual(await wanted('conf-1'), { fw: { version: '2' } });
    const beaten = await called((done) => registry.getConfiguration('low', done));
    assert.deepStrictEqual(beaten.systemMetrics.results, { targetedCount: 1, appliedCount: 0 });
    assert.deepStrictEqual(beaten.metrics.results, { rows: 0, count: 1 });
    const changed = await called((done) => registry.updateConfiguration({ ...beaten, priority: 6 }, done));
    assert.strictEqual(changed.priority, 6);
    assert.deepStrictEqual(await wanted('conf-1'), { fw: { version: '1' } });
    await refused('InvalidEtagError', (done) => registry.updateConfiguration({ ...beaten, priority: 7 }, done));
    await called((done) => registry.updateConfiguration({ ...beaten, priority: 7 }, true, done));
    const other = { ...beaten, content: { deviceContent: { 'properties.desired.fw': { version: '9' } } } };
    await refused('ArgumentError', (done) => registry.updateConfiguration(other, true, done));
    const all = await called((done) => registry.getConfigurations(done));
    assert.deepStrictEqual(all.map((one) => one.id), ['high', 'low']);
    await called((done) => registry.removeConfiguration('low', done));
    assert.deepStrictEqual(await wanted('conf-1'), { fw: { version: '2' } });
    await called((done) => registry.removeConfiguration('high', done));
    assert.deepStrictEqual(await wanted('conf-1'), {});
    await refused(/Not found/i, (done) => registry.getConfiguration('low', done));
    const content = { modulesContent: { filter: { 'properties.desired': { rate: 3 } } } };
    await refused('ArgumentError', (done) => registry.applyConfigurationContentOnDevice('conf-1', content, done));
    await create('edge-1', { capabilities: { iotEdge: true } });
    await called((done) => registry.applyConfigurationContentOnDevice('edge-1', content, done));
    const twin = await called((done) => registry.getModuleTwin('edge-1', 'filter', done));
    assert.strictEqual(twin.properties.desired.rate, 3);
  },

  async 'a twin job and a method job have children, one per device'() {
    for (const id of ['job-1', 'job-2', 'job-3']) {
      await create(id);
      await tag(id, { fleet: 9 });
    }
    const get = (id) => called((done) => jobs.getJob(id, done));
    const ended = (id, status) => until(`${id} ${status}`, async () => {
      const job = await get(id);
      return job.status === status ? job : null;
    });
    const patch = { etag: '*', tags: { seen: true }, properties: { desired: { x: 1 } } };
    const now = new Date();
    const made = await called((done) => jobs.scheduleTwinUpdate('twins', 'tags.fleet = 9', patch, now, 60, done));
    assert.deepStrictEqual([made.jobId, made.type, made.status], ['twins', 'scheduleUpdateTwin', 'queued']);
    const done = await ended('twins', 'completed');
    assert.deepStrictEqual(done.deviceJobStatistics, {
      deviceCount: 3, failedCount: 0, succeededCount: 3, runningCount: 0, pendingCount: 0,
    });
    assert.deepStrictEqual(await wanted('job-2'), { x: 1 });
    const client = await answering('job-1');
    const call = { methodName: 'go', payload: { n: 1 }, responseTimeoutInSeconds: 10 };
    await called((result) => jobs.scheduleDeviceMethod('methods', "deviceId IN ['job-1', 'job-2']", call, result));
    const failed = await ended('methods', 'failed');
    assert.match(failed.failureReason, /1 of 2/);
    const [children] = await ask("SELECT * FROM devices.jobs WHERE devices.jobs.jobId = 'methods'");
    assert.deepStrictEqual(children.map((row) => [row.deviceId, row.jobType, row.status]), [
      ['job-1', 'scheduleDeviceMethod', 'completed'],
      ['job-2', 'scheduleDeviceMethod', 'failed'],
    ]);
    const answer = { status: 200, payload: { name: 'go', got: { n: 1 } } };
    assert.deepStrictEqual(children[0].outcome.deviceMethodResponse, answer);
    assert.strictEqual(children[1].error.code, 'DeviceNotOnline');
    await close(client);
  },

  async 'jobs wait for their time, are cancelled, and listed in pages'() {
    const patch = { etag: '*', tags: { later: true } };
    const at = (seconds) => new Date(Date.now() + seconds * 1000);
    await called((done) => jobs.scheduleTwinUpdate('soon', "deviceId = 'job-3'", patch, at(1), 60, done));
    await called((done) => jobs.scheduleTwinUpdate('later', '*', patch, at(3600), 60, done));
    const is = async (id, status) => (await called((done) => jobs.getJob(id, done))).status === status;
    await until('the later job to wait', () => is('later', 'scheduled'));
    const cancelled = await called((done) => jobs.cancelJob('later', done));
    assert.strictEqual(cancelled.status, 'cancelled');
    await until('the sooner job', () => is('soon', 'completed'));
    assert.strictEqual((await twinOf('job-3')).tags.later, true);
    assert.strictEqual((await twinOf('job-1')).tags.later, undefined);
    const ids = async (...filter) => (await rows(jobs.createQuery(...filter)))[0].map((job) => job.jobId);
    assert.deepStrictEqual(await ids('scheduleUpdateTwin', 'completed'), ['twins', 'soon']);
    assert.deepStrictEqual(await ids('scheduleUpdateTwin', 'cancelled'), ['later']);
    assert.deepStrictEqual(await ids('scheduleDeviceMethod'), ['methods']);
    const [all, pages] = await rows(jobs.createQuery(undefined, undefined, 3));
    assert.deepStrictEqual([all.length, pages], [4, 2]);
    assert.strictEqual((await called((done) => jobs.getJob('nothing', done))).status, 'unknown');
    await refused(/Not found/i, (done) => jobs.cancelJob('nothing', done));
    await refused('DeviceAlreadyExistsError', (done) => jobs.scheduleTwinUpdate('soon', '*', patch, at(0), 60, done));
    await refused('ArgumentError', (done) => jobs.scheduleTwinUpdate('bad', 'tags.', patch, at(0), 60, done));
    await refused('ArgumentError', (done) => jobs.scheduleTwinUpdate('bad', '*', { tags: {} }, at(0), 60, done));
  },

  async 'import and export are refused, and there are none'() {
    assert.deepStrictEqual(await called((done) => registry.listJobs(done)), []);
    await refused(/Not found/i, (done) => registry.getJob('one', done));
    await refused(/Not found/i, (done) => registry.cancelJob('one', done));
    await assert.rejects(called((done) => registry.exportDevicesToBlob('https://example.com/x', true, done)));
  },

  async 'a throttled or broken service says so'() {
    const fault = (status, target) => limited(new Promise((resolve, reject) => {
      const request = https.request(`${process.env.EMULATOR}/emulator/faults`, { method: 'POST' }, (answer) => {
        answer.resume();
        answer.on('end', resolve);
      });
      request.on('error', reject);
      request.end(JSON.stringify({ fault: 'failService', status, target, times: 1 }));
    }));
    await fault(429, 'twins');
    await refused('ThrottlingError', (done) => registry.getTwin('job-1', done));
    assert.strictEqual((await twinOf('job-1')).deviceId, 'job-1');
    await fault(503, 'devices');
    await refused('ServiceUnavailableError', (done) => registry.get('job-1', done));
  },

  async 'digital twins are twins in other words'() {
    const desired = { limit: 5, thermostat: { __t: 'c', target: 20 } };
    await called((done) => registry.updateTwin('job-1', { properties: { desired } }, '*', done));
    const twin = await called((done) => digitalTwins.getDigitalTwin('job-1', done));
    assert.strictEqual(twin.$dtId, 'job-1');
    assert.strictEqual(twin.thermostat.$metadata.target.desiredValue, 20);
    const patch = [{ op: 'replace', path: '/thermostat/target', value: 21 }, { op: 'remove', path: '/limit' }];
    await called((done) => digitalTwins.updateDigitalTwin('job-1', patch, '*', done));
    assert.deepStrictEqual(await wanted('job-1'), { x: 1, thermostat: { __t: 'c', target: 21 } });
    const client = await answering('job-1');
    const answer = await limited(digitalTwins.invokeCommand('job-1', 'go', 7));
    assert.deepStrictEqual(answer.body || answer._response.parsedBody, { name: 'go', got: 7 });
    const reset = await limited(digitalTwins.invokeComponentCommand('job-1', 'thermostat', 'reset', 8));
    assert.deepStrictEqual(reset.body || reset._response.parsedBody, { name: 'thermostat*reset', got: 8 });
    await close(client);
  },
};

async function main() {
  for (const [name, check] of Object.entries(checks)) {
    try {
      await check();
      console.log(`ok      node    ${name}`);
    } catch (error) {
      // Whole, the SDK's errors hold the request with its token.
      console.error(error.stack);
      console.log(`FAILED  node    ${name}`);
    }
  }
}

main().finally(() => process.exit(0));
