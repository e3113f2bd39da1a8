'use strict';
// Real daemons, driven by the vendor's Node service SDK as its firmware tutorials do: an automatic configuration whose
// metrics are polled (S1), and scheduled jobs with parents and children (S4). Started by run.sh behind
// `hub-emulator fleet 6`, with SERVICE, EMULATOR and NODE_EXTRA_CA_CERTS. One line per check.

const assert = require('assert');
const https = require('https');
const { Client: ServiceClient, JobClient, Registry } = require('azure-iothub');

const PATIENCE = 60000;
const FLEET = 6;
const CONFIGURATION = 'firmware200';
const CHILLERS = "tags.devicetype = 'chiller'";

const registry = Registry.fromConnectionString(process.env.SERVICE);
const service = ServiceClient.fromConnectionString(process.env.SERVICE);
const jobs = JobClient.fromConnectionString(process.env.SERVICE);

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

async function until(what, condition) {
  const deadline = Date.now() + PATIENCE;
  let seen;
  for (;;) {
    seen = await condition();
    if (seen.is) return seen.value;
    if (Date.now() > deadline) throw new Error(`waited for ${what}: ${JSON.stringify(seen.value)}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
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

// All rows of a query.
async function rows(text) {
  const query = registry.createQuery(text, 100);
  const found = [];
  do {
    found.push(...await called((done) => query.next(query.continuationToken, done)));
  } while (query.hasMoreResults);
  return found;
}

// What a wish or a method says of a sample image.
async function firmware(version) {
  const image = (await door('/emulator/view', 'GET')).images.find((one) => one.name.includes(`-${version}`));
  return { fwVersion: version, fwPackageURI: image.url, fwPackageCheckValue: image.sha256 };
}

// Until a query for devices counts the whole fleet.
const all = (what, condition) => until(what, async () => {
  const found = await rows(`SELECT * FROM devices WHERE ${CHILLERS} AND ${condition}`);
  return { is: found.length === FLEET, value: found.map((twin) => twin.deviceId) };
});

const run = (version) => all(`all on ${version}`,
  `properties.reported.firmware.currentFwVersion = '${version}' AND properties.reported.firmware.fwUpdateStatus = 'current'`);

// A job of a method on the fleet, to its end.
async function ended(id) {
  return until(`the end of ${id}`, async () => {
    const job = await called((done) => jobs.getJob(id, done));
    return { is: ['completed', 'failed'].includes(job.status), value: job };
  });
}

async function method(id, name, payload) {
  const call = { methodName: name, payload, responseTimeoutInSeconds: 30 };
  await called((done) => jobs.scheduleDeviceMethod(id, CHILLERS, call, new Date(), 120, done));
  const parent = await ended(id);
  const children = await rows(`SELECT * FROM devices.jobs WHERE devices.jobs.jobId = '${id}'`);
  return { parent, children };
}

// Seven jobs: a parent that counts, and a child for each device with the device's answer.
function assertSeven({ parent, children }, status) {
  assert.strictEqual(parent.status, 'completed');
  assert.deepStrictEqual(parent.deviceJobStatistics, {
    deviceCount: FLEET, failedCount: 0, succeededCount: FLEET, runningCount: 0, pendingCount: 0,
  });
  assert.match(parent.statusMessage, new RegExp(`${FLEET}`));
  assert.strictEqual(children.length, FLEET);
  for (const child of children) {
    assert.strictEqual(child.status, 'completed');
    assert.strictEqual(child.outcome.deviceMethodResponse.status, status);
  }
}

const metric = (condition) =>
  `SELECT deviceId FROM devices WHERE configurations.[[${CONFIGURATION}]].status='Applied' AND ${condition}`;
const status = (word) => `properties.reported.firmware.fwUpdateStatus='${word}'`;

const checks = {
  async 'six daemons are there, on the version of the factory'() {
    await run('1.0.0');
    const found = await rows(`SELECT * FROM devices WHERE ${CHILLERS}`);
    assert.deepStrictEqual(found.map((twin) => twin.connectionState), Array(FLEET).fill('Connected'));
    assert.deepStrictEqual(found[0].properties.reported.firmware, {
      currentFwVersion: '1.0.0',
      pendingFwVersion: '',
      fwUpdateStatus: 'current',
      fwUpdateSubstatus: '',
      lastFwUpdateStartTime: '',
      lastFwUpdateEndTime: '',
    });
  },

  async 'S1: a configuration updates all, and its metrics tell how far they are'() {
    // Slow enough to be looked at.
    await door('/emulator/faults', 'PUT', { fault: 'slow', bytesPerSecond: 250000, target: 'gateway-2.0.0.squashfs' });
    await called((done) => registry.addConfiguration({
      id: CONFIGURATION,
      content: { deviceContent: { 'properties.desired.firmware': firmwareOf2 } },
      targetCondition: "tags.devicetype = 'chiller'",
      priority: 20,
      metrics: { queries: {
        current: metric(status('current')),
        applying: metric(`( ${status('downloading')} OR ${status('verifying')} OR ${status('applying')})`),
        rebooting: metric(status('rebooting')),
        error: metric(status('error')),
        rolledback: metric(status('rolledback')),
      } },
    }, done));
    const seen = new Set();
    await until('six on the new version by the metrics', async () => {
      const found = await called((done) => registry.getConfiguration(CONFIGURATION, done));
      const counts = found.metrics.results;
      Object.keys(counts).filter((name) => counts[name] > 0).forEach((name) => seen.add(name));
      assert.deepStrictEqual(found.systemMetrics.results, { targetedCount: FLEET, appliedCount: FLEET });
      // At first all are current, and on the old version.
      return { is: seen.has('applying') && counts.current === FLEET, value: counts };
    });
    assert.deepStrictEqual([...seen].filter((name) => ['error', 'rolledback'].includes(name)), []);
    assert(seen.has('applying'), `only ${[...seen]} were seen`);
    for (const twin of await run('2.0.0').then(() => rows(`SELECT * FROM devices WHERE ${CHILLERS}`))) {
      const { firmware: reported } = twin.properties.reported;
      assert(reported.lastFwUpdateStartTime < reported.lastFwUpdateEndTime, JSON.stringify(reported));
      assert.strictEqual(reported.pendingFwVersion, '');
    }
    await door('/emulator/faults', 'DELETE');
  },

  async 'S1: the configuration goes, the firmware stays, and an insecure address is refused'() {
    await called((done) => registry.removeConfiguration(CONFIGURATION, done));
    await run('2.0.0');
    const wish = (wanted) => called((done) =>
      registry.updateTwin('gateway-001', { properties: { desired: { firmware: wanted } } }, '*', done));
    await wish({ ...firmwareOf2, fwVersion: '9.0.0', fwPackageURI: 'http://secureuri/package.bin' });
    await until('the refusal', async () => {
      const { firmware: reported } = (await called((done) => registry.getTwin('gateway-001', done))).properties.reported;
      return { is: reported.fwUpdateStatus === 'error' && /Insecure package URI/.test(reported.fwUpdateSubstatus), value: reported };
    });
    await wish(null);
  },

  async 'S2: an address without a digest is refused, and the answer says why'() {
    const { fwPackageURI: address } = firmwareOf2;
    for (const payload of [address, { fwPackageUri: address }, JSON.stringify({ fwPackageUri: address })]) {
      const call = { methodName: 'firmwareUpdate', payload, responseTimeoutInSeconds: 30 };
      const answer = await called((done) => service.invokeDeviceMethod('gateway-002', call, done));
      assert.strictEqual(answer.status, 400);
      assert.strictEqual(answer.payload.code, 'request.unverifiable');
      assert.match(answer.payload.Response, /trust\.allow_undigested/);
    }
  },

  async 'S4: a job of reading properties and one of settings reach all six'() {
    const read = await method('read', 'readProperty', ['hostname', 'kernel']);
    assertSeven(read, 200);
    for (const child of read.children) {
      const { payload } = child.outcome.deviceMethodResponse;
      assert.deepStrictEqual(payload, { hostname: child.deviceId, kernel: '6.12.0-gateway' });
    }
    const patch = { etag: '*', properties: { desired: { twinboot: { progressInterval: 5 } } } };
    await called((done) => jobs.scheduleTwinUpdate('settings', CHILLERS, patch, new Date(), 60, done));
    assert.strictEqual((await ended('settings')).deviceJobStatistics.succeededCount, FLEET);
    await all('the settings acknowledged', 'properties.reported.twinboot.progressInterval.ac = 200');
  },

  async 'S4: a firmware job on six devices is seven jobs, and all are updated'() {
    const { fwVersion, fwPackageURI, fwPackageCheckValue } = await firmware('1.0.0');
    const payload = { fwPackageUri: fwPackageURI, fwPackageCheckValue, fwVersion };
    assertSeven(await method('update', 'firmwareUpdate', payload), 200);
    await run('1.0.0');
  },

  async 'S4: in two steps, downloaded by all and then applied'() {
    const { fwVersion, fwPackageURI, fwPackageCheckValue } = firmwareOf2;
    const payload = { fwPackageUri: fwPackageURI, fwPackageCheckValue, fwVersion };
    assertSeven(await method('download', 'firmwareDownload', payload), 202);
    await all('all waiting', "properties.reported.firmware.fwUpdateStatus = 'verifying' AND STARTSWITH(properties.reported.firmware.fwUpdateSubstatus, 'ready, waiting to be applied')");
    assertSeven(await method('apply', 'firmwareApply', null), 202);
    await run('2.0.0');
    // Nothing waits any more.
    const again = await method('apply-again', 'firmwareApply', null);
    assert.deepStrictEqual(again.children.map((child) => child.outcome.deviceMethodResponse.status), Array(FLEET).fill(412));
  },

  async 'S4: a reboot job brings all back, and a factory reset is refused where none is declared'() {
    assertSeven(await method('reboot', 'reboot', null), 200);
    await all('all rebooted', 'is_defined(properties.reported.rebootTime)');
    await until('all connected', async () => {
      const found = await rows(`SELECT * FROM devices WHERE ${CHILLERS}`);
      return { is: found.every((twin) => twin.connectionState === 'Connected'), value: found.length };
    });
    const reset = await method('reset', 'factoryReset', null);
    for (const child of reset.children) {
      assert.strictEqual(child.outcome.deviceMethodResponse.status, 501);
      assert.match(child.outcome.deviceMethodResponse.payload.Response, /factory_reset/);
    }
  },

  async 'S4: a device that is away is the one child that fails, and is counted'() {
    await door('/emulator/faults', 'PUT', { fault: 'refuseConnect', target: 'gateway-006' });
    await door('/emulator/devices/gateway-006/drop', 'POST');
    const { parent, children } = await method('status', 'getStatus', null);
    assert.strictEqual(parent.status, 'failed');
    assert.strictEqual(parent.deviceJobStatistics.succeededCount, FLEET - 1);
    assert.match(parent.failureReason, new RegExp(`1 of ${FLEET}`));
    assert.deepStrictEqual(children.filter((child) => child.status === 'failed').map((child) => child.deviceId), ['gateway-006']);
    await door('/emulator/faults', 'DELETE');
    await until('the device back', async () => {
      const twin = await called((done) => registry.getTwin('gateway-006', done));
      return { is: twin.connectionState === 'Connected', value: twin.connectionState };
    });
  },
};

let firmwareOf2;

async function main() {
  firmwareOf2 = await firmware('2.0.0');
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
