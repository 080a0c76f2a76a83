// The widget in a page of another origin: sends one question and prints each stage of its answer as a JSON line.
//
//   node widget.mjs API_HOST FLOW QUESTION LAST_WORD CHROMIUM    in a folder with flowise-embed and playwright-core
import fs from 'node:fs'
import http from 'node:http'
import { createRequire } from 'node:module'

const { chromium } = createRequire(process.cwd() + '/package.json')('playwright-core')
const [apiHost, chatflowid, question, lastWord, executablePath] = process.argv.slice(2)
const page = `<!doctype html><meta charset=utf-8><body><script type="module">import Chatbot from '/web.js'
Chatbot.init({ chatflowid: '${chatflowid}', apiHost: '${apiHost}',
  theme: { button: { autoWindowOpen: { autoOpen: true, openDelay: 0 } } } })</script>`
const site = http.createServer((request, response) => {
    const isScript = request.url === '/web.js'
    response.writeHead(200, { 'content-type': isScript ? 'text/javascript' : 'text/html' })
    response.end(isScript ? fs.readFileSync('node_modules/flowise-embed/dist/web.js') : page)
})
await new Promise((listening) => site.listen(0, '127.0.0.1', listening))
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu'] })
try {
    const tab = await browser.newPage()
    tab.on('console', (message) => message.type() === 'error' && console.error(message.text()))
    await tab.goto(`http://127.0.0.1:${site.address().port}/`)
    const input = tab.locator('flowise-chatbot textarea')
    await input.fill(question)
    await input.press('Enter')
    const bubbles = tab.locator('flowise-chatbot .chatbot-host-bubble')
    const until = performance.now() + 30000
    for (let last = ''; !last.includes(lastWord) && performance.now() < until; ) {
        const text = (await bubbles.allInnerTexts()).at(-1) ?? ''
        if (text !== last) console.log(JSON.stringify(text))
        last = text
        await tab.waitForTimeout(20)
    }
} finally {
    await browser.close()
    site.close()
}
