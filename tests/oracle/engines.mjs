// Reads Parquet files with hyparquet and writes their rows as JSON. Values that JSON does not have are marked.
//   node engines.mjs NODE_MODULES '["column", …]' FILE…
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

const [modules, columns, ...files] = process.argv.slice(2)
const load = name => import(pathToFileURL(createRequire(`${modules}/`).resolve(name)).href)
const { asyncBufferFromFile, parquetReadObjects } = await load('hyparquet')
const { compressors } = await load('hyparquet-compressors')

function mark(value) {
  if (typeof value === 'bigint') return { $integer: value.toString() }
  if (typeof value === 'number' && (!Number.isFinite(value) || Object.is(value, -0))) {
    return { $float: Object.is(value, -0) ? '-0.0' : String(value).replace('Infinity', 'inf') }
  }
  if (value instanceof Date) return { $milliseconds: Number.isNaN(value.getTime()) ? null : value.getTime() }
  if (value instanceof Uint8Array) return { $bytes: Buffer.from(value).toString('hex') }
  if (ArrayBuffer.isView(value) || Array.isArray(value)) return Array.from(value, mark)
  if (value && typeof value === 'object') {
    return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, mark(part)]))
  }
  return value === undefined ? null : value
}

const rows = []
for (const name of files) {
  const file = await asyncBufferFromFile(name)
  rows.push(...await parquetReadObjects({ file, compressors, columns: JSON.parse(columns), utf8: false }))
}
process.stdout.write(JSON.stringify(rows.map(mark)))
