// Runs seed.js as a page's script: a relative URL is resolved against the page's address.
// node driver.js BASE_URL ROOM_ID CONTENT
const fs = require('node:fs');
const path = require('node:path');
const vm = require('node:vm');

const [baseUrl, roomId, content] = process.argv.slice(2);
const realFetch = globalThis.fetch;
globalThis.fetch = (url, options) => realFetch(new URL(url, baseUrl), options);
vm.runInThisContext(fs.readFileSync(path.join(__dirname, 'seed.js'), 'utf8'));
sendMessage(roomId, content).then((answer) => console.log(JSON.stringify(answer)));
