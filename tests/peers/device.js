'use strict';
// The vendor's Node device SDKs, unchanged, through every way into the emulator: both transports, tokens and
// certificates, the provisioning service, lost links, restarts. Starts and ends the emulator itself; run.sh sets
// COMMAND (the emulator's command line, with a state directory), HOST, CERTIFICATES and NODE_EXTRA_CA_CERTS. One line
// per check.

const assert = require('assert');
const crypto = require('crypto');
const fs = require('fs');
const https = require('https');
const readline = require('readline');
const { execFileSync, spawn } = require('child_process');
const { Client, Message, ModuleClient, SharedAccessKeyAuthenticationProvider } = require('azure-iot-device');
const { Mqtt, MqttWs } = require('azure-iot-device-mqtt');
const { ProvisioningDeviceClient } = require('azure-iot-provisioning-device');
const { Mqtt: ProvisioningMqtt, MqttWs: ProvisioningMqttWs } = require('azure-iot-provisioning-device-mqtt');
const { SymmetricKeySecurityClient } = require('azure-iot-security-symmetric-key');
const { X509Security } = require('azure-iot-security-x509');
const { Client: ServiceClient, Registry } = require('azure-iothub');

const HOST = process.env.HOST;
const CERTIFICATES = process.env.CERTIFICATES;
const PATIENCE = 30000;

// Promises and conditions that end.
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

const until = async (what, condition) => {
  const deadline = Date.now() + PATIENCE;
  while (!await condition()) {
    assert(Date.now() < deadline, `in ${PATIENCE} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
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

// The program, with what it printed.
const emulator = {
  lines: [],
  values: {},

  async start() {
    const [program, ...parameters] = process.env.COMMAND.split(' ');
    this.process = spawn(program, parameters, { stdio: ['ignore', 'pipe', 'inherit'] });
    this.ended = new Promise((resolve) => this.process.on('exit', resolve));
    await limited(new Promise((resolve, reject) => {
      this.ended.then(() => reject(new Error('the emulator did not start')));
      readline.createInterface({ input: this.process.stdout }).on('line', (line) => {
        const [name, value] = line.split(': ');
        this.values[name] = value;
        this.lines.push(line);
        if (line === 'ready') resolve();
      });
    }));
  },

  async end() {
    this.process.kill('SIGTERM');
    await limited(this.ended);
  },

  async restart() {
    await this.end();
    await this.start();
  },

  connections(device) {
    return this.lines.filter((line) => line.includes(` ${device}  connected`)).length;
  },
};

const door = (path, method, body) => limited(new Promise((resolve, reject) => {
  const request = https.request(`https://${HOST}${path}`, { method, agent: false }, (answer) => {
    let text = '';
    answer.on('data', (piece) => { text += piece; });
    answer.on('end', () => {
      if (answer.statusCode < 300) resolve(text ? JSON.parse(text) : null); else reject(new Error(text));
    });
  });
  request.on('error', reject);
  request.end(body ? JSON.stringify(body) : undefined);
}));

let registry;
let service;

// A client with what it received, and the checks that every way in must pass.
class Device {
  constructor(id, client) {
    this.id = id;
    this.client = client;
    this.wanted = new Arrivals();
    this.messages = new Arrivals();
    // A client of this SDK that ends by an error would end the script.
    client.on('error', () => {});
  }

  async open() {
    await limited(this.client.open());
    return this;
  }

  async listen() {
    this.twin = await limited(this.client.getTwin());
    this.twin.on('properties.desired.wanted', (value) => this.wanted.put(value));
    this.client.onDeviceMethod('echo', (request, response) => response.send(200, { payload: request.payload }));
    this.hears();
  }

  // Connects, if it is not connected.
  hears() {
    this.client.on('message', (message) => {
      this.messages.put(message);
      this.client.complete(message, () => {});
    });
  }

  async reports(patch) {
    await called((done) => this.twin.properties.reported.update(patch, done));
    const reported = (await registry.getTwin(this.id)).responseBody.properties.reported;
    for (const [name, value] of Object.entries(patch)) assert.deepStrictEqual(reported[name], value);
  }

  async desires(value) {
    await registry.updateTwin(this.id, { properties: { desired: { wanted: value } } }, '*');
    while (await this.wanted.next() !== value);
  }

  async isCalled() {
    const call = { methodName: 'echo', payload: { a: [1, null] }, responseTimeoutInSeconds: 20 };
    const answer = (await limited(service.invokeDeviceMethod(this.id, call))).result;
    assert.deepStrictEqual([answer.status, answer.payload], [200, { payload: { a: [1, null] } }]);
  }

  async isTold(text) {
    await door(`/emulator/devices/${this.id}/messages`, 'POST', { body: text, properties: { empty: '', level: '3' } });
    await this.wasTold(text);
  }

  async wasTold(text) {
    const message = await this.messages.next();
    assert.strictEqual(message.data.toString(), text);
    const named = Object.fromEntries(message.properties.propertyList.map(({ key, value }) => [key, value]));
    assert.deepStrictEqual([named.empty, named.level], ['', '3']);
    const waiting = async () => (await door(`/emulator/devices/${this.id}/messages`, 'GET')).length === 0;
    await until('the message is acknowledged', waiting);
  }

  async sends(text) {
    const message = new Message(JSON.stringify({ text }));
    message.contentType = 'application/json';
    message.contentEncoding = 'utf-8';
    message.properties.add('level', 'a&b=c/d');
    await limited(this.client.sendEvent(message));
    const received = (await door(`/emulator/devices/${this.id}`, 'GET')).received.pop();
    assert.deepStrictEqual(received.body, { text });
    const { '$.ct': type, '$.ce': encoding, level } = received.properties;
    assert.deepStrictEqual([type, encoding, level], ['application/json', 'utf-8', 'a&b=c/d']);
  }

  // Loses the link in some way, and waits until the SDK has come back.
  async loses(how) {
    const before = emulator.connections(this.id);
    await how();
    await until('the SDK comes back', () => emulator.connections(this.id) > before);
  }

  async doesAll() {
    await this.listen();
    await this.reports({ round: { by: this.id } });
    await this.desires('here');
    await this.isCalled();
    await this.sends('hello');
    await this.isTold('hello');
  }

  async survives() {
    await this.doesAll();
    await this.loses(() => door(`/emulator/devices/${this.id}/drop`, 'POST'));
    // This SDK subscribes to nothing of the twin again: the stored session does it.
    await this.desires('after the drop');
    await this.isCalled();
    await this.isTold('after the drop');
    await this.loses(() => emulator.restart());
    await this.desires('after the restart');
    await this.isCalled();
    await this.isTold('after the restart');
    await this.reports({ still: 'there' });
    await this.sends('after the restart');
  }

  async close() {
    await limited(this.client.close());
  }
}

const made = async (id) => {
  const { responseBody } = await registry.create({ deviceId: id, status: 'enabled' });
  const key = responseBody.authentication.symmetricKey.primaryKey;
  return `HostName=${HOST};DeviceId=${id};SharedAccessKey=${key}`;
};

const byToken = async (id, transport) => new Device(id, Client.fromConnectionString(await made(id), transport)).open();

const certificate = (name) => ({
  cert: fs.readFileSync(`${CERTIFICATES}/${name}.pem`, 'utf-8'),
  key: fs.readFileSync(`${CERTIFICATES}/${name}.key`, 'utf-8'),
});

const byCertificate = async (id, name, transport) => {
  const client = Client.fromConnectionString(`HostName=${HOST};DeviceId=${id};x509=true`, transport);
  client.setOptions(certificate(name));
  return new Device(id, client).open();
};

const thumbprint = (name) => execFileSync(
  'openssl', ['x509', '-in', `${CERTIFICATES}/${name}.pem`, '-noout', '-fingerprint', '-sha256'], { encoding: 'utf-8' },
).trim().split('=')[1].replaceAll(':', '');

const register = async (transport, security, payload) => {
  const { idScope } = await door('/emulator/provisioning', 'GET');
  const client = ProvisioningDeviceClient.create(HOST, idScope, new transport(), security);
  if (payload) client.setProvisioningPayload(payload);
  return called((done) => client.register(done));
};

const keyOf = (enrollment) => enrollment.attestation.symmetricKey.primaryKey;

const checks = {
  async 'over TLS a device does all it can, and goes on after a drop and a restart'() {
    const device = await byToken('node-tls', Mqtt);
    await device.survives();
    await device.close();
  },

  async 'over a WebSocket a device does all it can, and goes on after a drop and a restart'() {
    const device = await byToken('node-websocket', MqttWs);
    await device.survives();
    await device.close();
  },

  async 'a message waits for a device that is away, over a restart too'() {
    let device = await byToken('node-away', Mqtt);
    await device.listen();
    await device.isTold('while here');
    await device.close();
    await door('/emulator/devices/node-away/messages', 'POST', { body: 'while away', properties: { empty: '', level: '3' } });
    await emulator.restart();
    const { responseBody } = await registry.get('node-away');
    const key = responseBody.authentication.symmetricKey.primaryKey;
    const text = `HostName=${HOST};DeviceId=node-away;SharedAccessKey=${key}`;
    device = new Device('node-away', Client.fromConnectionString(text, Mqtt));
    // A message that comes before its handler would be dropped by the SDK.
    device.hears();
    await device.wasTold('while away');
    await device.close();
  },

  async 'a token is renewed before it expires'() {
    // Good for twenty seconds, renewed after five.
    const provider = SharedAccessKeyAuthenticationProvider.fromConnectionString(await made('node-renewal'), 20, 15);
    const device = await new Device('node-renewal', Client.fromAuthenticationProvider(provider, Mqtt)).open();
    await device.listen();
    await device.loses(() => {});
    await device.desires('after the renewal');
    await device.isCalled();
    await device.sends('after the renewal');
    await device.close();
    assert(!emulator.lines.some((line) => line.includes('node-renewal  disconnected: its token expired')));
  },

  async 'a certificate lets a device in by its thumbprint'() {
    await registry.create({
      deviceId: 'node-own',
      authentication: { type: 'selfSigned', x509Thumbprint: { primaryThumbprint: thumbprint('node-own') } },
    });
    const device = await byCertificate('node-own', 'node-own', Mqtt);
    await device.doesAll();
    await device.close();
    await assert.rejects(byCertificate('node-own', 'node-ca', Mqtt), /[Nn]ot authorized|Unauthorized/);
  },

  async 'an authority lets a device in over TLS and a WebSocket'() {
    await door('/emulator/authorities', 'POST', { certificate: certificate('root').cert });
    await registry.create({ deviceId: 'node-ca', authentication: { type: 'certificateAuthority' } });
    const device = await byCertificate('node-ca', 'node-ca', MqttWs);
    await device.doesAll();
    await device.close();
    await (await byCertificate('node-ca', 'node-ca', Mqtt)).close();
  },

  async 'a device registers with its own key and goes on'() {
    const body = { deviceId: 'node-registered', payload: { given: [1] } };
    const key = keyOf(await door('/emulator/enrollments/node-reg', 'PUT', body));
    const security = new SymmetricKeySecurityClient('node-reg', key);
    const result = await register(ProvisioningMqtt, security, { model: 'x' });
    assert.deepStrictEqual([result.deviceId, result.assignedHub], ['node-registered', HOST]);
    assert.deepStrictEqual(result.payload, { given: [1] });
    const text = `HostName=${result.assignedHub};DeviceId=${result.deviceId};SharedAccessKey=${key}`;
    const device = await new Device(result.deviceId, Client.fromConnectionString(text, Mqtt)).open();
    await device.doesAll();
    await device.close();
  },

  async 'a device of a group registers through a WebSocket'() {
    const group = Buffer.from(keyOf(await door('/emulator/enrollmentGroups/node-group', 'PUT', {})), 'base64');
    const key = crypto.createHmac('sha256', group).update('node-member').digest('base64');
    const result = await register(ProvisioningMqttWs, new SymmetricKeySecurityClient('node-member', key));
    assert.strictEqual(result.deviceId, 'node-member');
    const text = `HostName=${result.assignedHub};DeviceId=node-member;SharedAccessKey=${key}`;
    const device = await new Device('node-member', Client.fromConnectionString(text, MqttWs)).open();
    await device.doesAll();
    await device.close();
  },

  async 'certificates register alone and in a group'() {
    const x509 = (kind, name) => (
      { attestation: { type: 'x509', x509: { [kind]: { primary: { certificate: certificate(name).cert } } } } }
    );
    await door('/emulator/enrollments/node-own-reg', 'PUT', x509('clientCertificates', 'node-own-reg'));
    await door('/emulator/enrollmentGroups/node-x509', 'PUT', x509('signingCertificates', 'root'));
    for (const name of ['node-own-reg', 'node-ca-reg']) {
      const result = await register(ProvisioningMqtt, new X509Security(name, certificate(name)));
      assert.strictEqual(result.deviceId, name);
      const device = await byCertificate(name, name, Mqtt);
      await device.doesAll();
      await device.close();
    }
  },

  async 'registrations that lead nowhere are errors'() {
    const key = keyOf(await door('/emulator/enrollments/node-off', 'PUT', { provisioningStatus: 'disabled' }));
    await assert.rejects(register(ProvisioningMqtt, new SymmetricKeySecurityClient('node-off', key)));
    await assert.rejects(register(ProvisioningMqtt, new SymmetricKeySecurityClient('node-nobody', key)), /[Uu]nauthorized/);
    assert(emulator.lines.some((line) => line.includes('node-off  registration disabled')));
  },

  async 'a throttled registration is tried again by the SDK'() {
    const key = keyOf(await door('/emulator/enrollments/node-late', 'PUT', {}));
    const fault = { fault: 'failRegistration', status: 429, retryAfter: 1, target: 'node-late', times: 1 };
    await door('/emulator/faults', 'POST', fault);
    const result = await register(ProvisioningMqtt, new SymmetricKeySecurityClient('node-late', key));
    assert.strictEqual(result.deviceId, 'node-late');
  },

  async 'a module reads, reports and is called'() {
    await made('node-with-module');
    const { responseBody } = await registry.addModule({ deviceId: 'node-with-module', moduleId: 'mod' });
    const module = responseBody ?? (await registry.getModule('node-with-module', 'mod')).responseBody;
    const key = module.authentication.symmetricKey.primaryKey;
    const text = `HostName=${HOST};DeviceId=node-with-module;ModuleId=mod;SharedAccessKey=${key}`;
    const client = ModuleClient.fromConnectionString(text, Mqtt);
    await limited(client.open());
    const wanted = new Arrivals();
    const twin = await limited(client.getTwin());
    twin.on('properties.desired.wanted', (value) => wanted.put(value));
    await called((done) => twin.properties.reported.update({ by: 'module' }, done));
    const seen = (await registry.getModuleTwin('node-with-module', 'mod')).responseBody;
    assert.strictEqual(seen.properties.reported.by, 'module');
    await registry.updateModuleTwin('node-with-module', 'mod', { properties: { desired: { wanted: 7 } } }, '*');
    assert.strictEqual(await wanted.next(), 7);
    client.onMethod('echo', (request, response) => response.send(200, { payload: request.payload }));
    const call = { methodName: 'echo', payload: 1, responseTimeoutInSeconds: 20, connectTimeoutInSeconds: 20 };
    const answer = (await limited(service.invokeDeviceMethod('node-with-module', 'mod', call))).result;
    assert.deepStrictEqual(answer.payload, { payload: 1 });
    await limited(client.sendEvent(new Message('from a module')));
    await limited(client.close());
  },
};

const run = async () => {
  await emulator.start();
  registry = Registry.fromConnectionString(emulator.values['service connection string']);
  service = ServiceClient.fromConnectionString(emulator.values['service connection string']);
  for (const [name, check] of Object.entries(checks)) {
    try {
      await check();
      console.log(`ok      node    ${name}`);
    } catch (error) {
      console.error(error);
      console.log(`FAILED  node    ${name}`);
    }
  }
  await emulator.end();
  process.exit(0);
};

run();
