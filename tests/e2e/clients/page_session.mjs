// A page in a browser, driven by commands on standard input.
//
//   node page_session.mjs CHROMIUM    in a folder with playwright-core, flowise-embed
//
// Prints one line of JSON for each line ["verb", argument]; {"error": ...} if the verb failed.
import fs from 'node:fs'
import readline from 'node:readline'
import { createRequire } from 'node:module'

const { chromium } = createRequire(process.cwd() + '/package.json')('playwright-core')
const browser = await chromium.launch({ executablePath: process.argv[2], args: ['--no-sandbox', '--disable-gpu'] })
const tab = await browser.newPage()
tab.setDefaultTimeout(30000)
const script = fs.readFileSync('node_modules/flowise-embed/dist/web.js')
await tab.route('https://cdn.jsdelivr.net/**', (asked) => asked.fulfill({ body: script, contentType: 'text/javascript' }))
const complaints = []
tab.on('pageerror', (error) => complaints.push(String(error)))

const verbs = {
    open: async (url) => void (await tab.goto(url)),
    click: (selector) => tab.locator(selector).first().click(),
    ask: async ([selector, text]) => {
        await tab.locator(selector).fill(text)
        await tab.locator(selector).press('Enter')
    },
    // waits until an element with this selector has this text
    shows: ([selector, text]) => tab.locator(selector).filter({ hasText: text }).first().waitFor(),
    text: async (selector) => (await tab.locator(selector).allInnerTexts()).join('\n'),
    complaints: () => complaints.splice(0)
}
console.log('"open"')
for await (const line of readline.createInterface({ input: process.stdin })) {
    const [verb, argument] = JSON.parse(line)
    try {
        console.log(JSON.stringify((await verbs[verb](argument)) ?? null))
    } catch (error) {
        console.log(JSON.stringify({ error: `${verb}: ${error.message}` }))
    }
}
await browser.close()
