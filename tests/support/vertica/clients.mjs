// vertica-nodejs, as it is published, reads what clients.py asks for and prints it: all values as the text that
// came, and a few as the client's own types. Then it logs in by every method that it knows.

import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

const vertica = createRequire(join(process.argv[2], 'package.json'))('vertica-nodejs')
const asked = JSON.parse(readFileSync(0, 'utf8'))
const raw = { getTypeParser: () => (text) => text }
const problems = []
let checks = 0

function same(what, found, wanted) {
  checks += 1
  if (found !== wanted) problems.push(`${what}: read ${found}, wanted ${wanted}`)
}

async function open(options = {}) {
  const client = new vertica.Client({
    host: '127.0.0.1', port: asked.port, user: 'dbadmin', database: 'vdb', tls_mode: 'disable', ...options,
  })
  client.on('error', () => {})
  await client.connect()
  return client
}

async function rows(client, query) {
  return (await client.query({ rowMode: 'array', types: raw, ...query })).rows
}

const found = { simple: {}, prepared: {} }
const client = await open()
for (const [name, text] of asked.cases) {
  found.simple[name] = await rows(client, { text })
  found.prepared[name] = await rows(client, { text, name: `p_${name}` })
}

// Its own types.
const own = await client.query({ text: 'SELECT MIN(node_name), COUNT(*) FROM v_catalog.nodes', rowMode: 'array' })
same('a name', own.rows[0][0], 'v_vdb_node0001')
same('an integer', Number(own.rows[0][1]), 3)
same('type of a column', own.fields[1].dataTypeID, 6)
const parameter = await client.query('SELECT node_name FROM v_catalog.nodes WHERE node_name = ?', ['v_vdb_node0002'])
same('a parameter', parameter.rows[0].node_name, 'v_vdb_node0002')
try {
  await client.query('SELECT 1 FROM "nowhere"."x"')
  problems.push('no error for a missing schema')
} catch (error) {
  same('SQLSTATE', error.code, '3F000')
  same('severity', error.severity, 'ERROR')
}
same('goes on after an error', (await client.query('SELECT version()')).rows.length, 1)
await client.end()

// Logins.
for (const [method, user] of Object.entries(asked.logins)) {
  const secret = method === 'oauth' ? { oauth_access_token: asked.secret } : { password: asked.secret }
  const other = await open({ user, ...secret })
  same(method, (await other.query('SELECT version()')).rows.length, 1)
  await other.end()
  let refusal = 'no error'
  try {
    await open({ user, ...(method === 'oauth' ? { oauth_access_token: 'wrong' } : { password: 'wrong' }) })
  } catch (error) {
    refusal = error.code
  }
  same(`wrong ${method}`, refusal, '28000')
}
for (const mode of ['require', 'verify-full']) {
  const secure = await open({ port: asked.tls.port, tls_mode: mode, tls_trusted_certs: asked.tls.ca, host: 'localhost' })
  same(`TLS ${mode}`, (await secure.query('SELECT version()')).rows.length, 1)
  await secure.end()
}

process.stdout.write(JSON.stringify({ rows: found, problems, checks }), () => process.exit(0))
