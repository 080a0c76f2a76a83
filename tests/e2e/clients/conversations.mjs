// Conversations by the TypeScript SDK, all at once: BASE_URL FLOW QUESTIONS, a file of lists of [chatId, question].
// Prints a line of JSON for each turn.
import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'

const { FlowiseClient } = createRequire(process.cwd() + '/package.json')('flowise-sdk')
const [baseUrl, chatflowId, questions] = process.argv.slice(2)

async function converse(turns) {
    const client = new FlowiseClient({ baseUrl })
    for (const [chatId, question] of turns) {
        const turn = { chat: chatId, question, began: Date.now() / 1000, words: [], is_complete: false }
        let hasError = false
        try {
            for await (const event of await client.createPrediction({ chatflowId, question, chatId, streaming: true })) {
                if (event.event === 'token' && event.data) turn.words.push(event.data.trim())
                hasError ||= event.event === 'error'
                turn.is_complete = event.event === 'end' && !hasError
            }
        } catch (error) {
            turn.is_complete = false
            console.error(String(error))
        }
        turn.ended = Date.now() / 1000
        console.log(JSON.stringify(turn))
    }
}

await Promise.all(JSON.parse(readFileSync(questions)).map(converse))
