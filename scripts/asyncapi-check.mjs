// Checks an AsyncAPI document, with everything that it refers to, with the official parser:
// asyncapi-check.mjs MODULES FILE
// MODULES is the node_modules folder that has @asyncapi/parser. Any error or
// warning is a failure.
import { createRequire } from "node:module";
import { resolve } from "node:path";

const [modules, file] = process.argv.slice(2);
const { Parser, fromFile } = createRequire(resolve(modules) + "/")("@asyncapi/parser");
const { document, diagnostics } = await fromFile(new Parser(), resolve(file)).parse();
const severe = diagnostics.filter((found) => found.severity <= 1);
for (const { path, message } of severe) {
  console.error(`${file}: ${path.join("/")}: ${message}`);
}
if (severe.length > 0 || document === undefined) {
  process.exit(1);
}
const messages = document.allMessages().all().length;
console.log(`${file}: AsyncAPI ${document.version()}, ${document.allChannels().all().length} channels, ${messages} messages`);
