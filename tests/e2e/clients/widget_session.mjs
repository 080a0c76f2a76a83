// The widget in a browser, in a page of another site, driven by commands on standard input.
//
//   node widget_session.mjs CHROMIUM    in a folder with flowise-embed and playwright-core
//
// Prints the page's origin, then one line of JSON for each line ["verb", argument]; {"error": ...} if the verb failed.
// The browser keeps the page's storage until the program ends.
import fs from 'node:fs'
import http from 'node:http'
import readline from 'node:readline'
import { createRequire } from 'node:module'

const { chromium } = createRequire(process.cwd() + '/package.json')('playwright-core')
const script = fs.readFileSync('node_modules/flowise-embed/dist/web.js')
let settings = {}
const site = http.createServer((request, response) => {
    const isScript = request.url === '/web.js'
    response.writeHead(200, { 'content-type': isScript ? 'text/javascript' : 'text/html' })
    response.end(isScript ? script : page())
})
const page = () => `<!doctype html><meta charset=utf-8><link rel=icon href=data:,><body><script type="module">
import Chatbot from '/web.js'
Chatbot.init({ ...${JSON.stringify(settings)}, theme: { chatWindow: ${JSON.stringify(settings.window)}, button: { autoWindowOpen: { autoOpen: true, openDelay: 0 } } } })
</script>`
await new Promise((listening) => site.listen(0, '127.0.0.1', listening))
const origin = `http://localhost:${site.address().port}` // another site than 127.0.0.1, where the gateway is

const browser = await chromium.launch({ executablePath: process.argv[2], args: ['--no-sandbox', '--disable-gpu'] })
const tab = await browser.newPage({ viewport: { width: 900, height: 900 } })
tab.setDefaultTimeout(20000)
const calls = []
const complaints = []
const note = (request, status) => {
    if (!settings.apiHost || !request.url().startsWith(settings.apiHost)) return
    calls.push({ method: request.method(), path: request.url().slice(settings.apiHost.length), status })
}
tab.on('response', (response) => note(response.request(), response.status()))
// Not failures after the head: the widget aborts each stream when it has read its end.
tab.on('requestfailed', async (request) => (await request.response()) || note(request, request.failure()?.errorText))
tab.on('console', (message) => message.type() === 'error' && complaints.push(message.text()))
tab.on('pageerror', (error) => complaints.push(String(error)))

const widget = tab.locator('flowise-chatbot')
const input = widget.locator('textarea.text-input')
const answers = widget.locator('.chatbot-host-bubble')
const button = (label) => widget.getByRole('button', { name: label, exact: true })
const holds = async (test) => {
    for (const until = performance.now() + 20000; !(await test()); await tab.waitForTimeout(20))
        if (performance.now() > until) throw new Error(`not in 20 s; the page shows ${JSON.stringify(await bubbles())}`)
}
const bubbles = () =>
    widget.locator('.chatbot-host-bubble, .chatbot-guest-bubble').evaluateAll((all) =>
        all.map((bubble) => ({
            who: bubble.classList.contains('chatbot-guest-bubble') ? 'user' : 'bot',
            text: bubble.innerText,
            // 0 for a broken image
            images: [...bubble.querySelectorAll('img')].map((image) => ({ from: image.src.slice(0, 400), width: image.naturalWidth }))
        }))
    )

const verbs = {
    // loads or reloads the page: {chatflowid, apiHost}
    open: async (wanted) => {
        settings = wanted
        await tab.goto(origin)
        await input.or(widget.locator('form')).waitFor()
        await tab.waitForLoadState('networkidle')
    },
    ask: async (text) => {
        await input.fill(text)
        await input.press('Enter')
    },
    // waits until the newest answer contains this text
    shows: (text) => holds(async () => ((await answers.allInnerTexts()).at(-1) ?? '').includes(text)),
    // waits until the widget accepts the next question
    idle: () => holds(() => input.isEnabled()),
    stop: () => widget.locator('button[title^="Stop"]').click(),
    press: (label) => button(label).click(),
    offers: (label) => button(label).waitFor(),
    // the reason for an approval or a rejection
    reason: (text) => widget.locator('textarea:not(.text-input)').fill(text),
    // the form at the start of some flows: {name: text}
    fill: async (texts) => {
        for (const [name, text] of Object.entries(texts)) await widget.locator(`form [name="${name}"]`).fill(text)
    },
    // rates the newest answer, "Thumbs Up" or "Thumbs Down"; the widget then shows a field for a comment
    rate: async (title) => {
        await widget.locator(`button[title="${title}"]`).last().click()
        await widget.getByText('Provide additional feedback').waitFor()
    },
    // the comment behind a rating, in the field that the rating has opened
    comment: async (text) => {
        await widget.locator('textarea:not(.text-input)').fill(text)
        await button('Submit Feedback').click()
        await widget.getByText('Provide additional feedback').waitFor({ state: 'detached' })
    },
    // reads the newest answer aloud, until it is heard
    speak: async () => {
        await widget.locator('button[title="Play audio"]').last().click()
        await widget.locator('button[title="Stop audio"]').waitFor()
    },
    // stops that
    hush: async () => {
        await widget.locator('button[title="Stop audio"]').click()
        await widget.locator('button[title="Stop audio"]').waitFor({ state: 'detached' })
    },
    // opens the trace of the newest answer at the step of this name
    trace: async (step) => {
        await widget.getByText('Traces').last().click()
        await tab.getByText('Process Flow').waitFor()
        await tab.getByText(step).last().click()
        await tab.waitForLoadState('networkidle')
    },
    // the width of an image as the page loads it, 0 for a broken one
    image: (path) => tab.evaluate((from) => new Promise((loaded) => {
        const image = new Image()
        image.onload = image.onerror = () => loaded(image.naturalWidth)
        image.src = from
    }), settings.apiHost + path),
    // what a user can click: titles of buttons, and the kinds of files
    offered: async () => ({
        buttons: (await widget.locator('button[title]').evaluateAll((all) => all.map((one) => one.title))).filter(Boolean),
        files: await widget.locator('input[type=file]').evaluateAll((all) => all.map((one) => one.accept))
    }),
    // with the button for images, or the one for documents
    attach: async ({ images, documents }) => {
        const kind = images ? '[accept*="image/"]' : ':not([accept*="image/"])'
        const previews = widget.locator('[data-testid="input"]').locator('xpath=../..').locator('img, svg')
        const before = await previews.count()
        await widget.locator(`input[type=file]${kind}`).setInputFiles(images ?? documents)
        await holds(async () => (await previews.count()) > before)
    },
    bubbles,
    calls: () => calls.splice(0),
    complaints: () => complaints.splice(0),
    stored: () => tab.evaluate(() => Object.fromEntries(Object.entries(localStorage)))
}

const reply = (answer) => console.log(JSON.stringify(answer ?? null))
reply(origin)
for await (const line of readline.createInterface({ input: process.stdin })) {
    const [verb, argument] = JSON.parse(line)
    try {
        reply(await verbs[verb](argument))
    } catch (error) {
        reply({ error: `${verb}: ${error.message}` })
    }
}
await browser.close()
site.close()
