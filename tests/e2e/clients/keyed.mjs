// The TypeScript SDK with an API key: streams one answer, then gets another of the same conversation as JSON.
//
//   node keyed.mjs BASE_URL API_KEY FLOW QUESTION QUESTION    in a folder with flowise-sdk; prints both
import { createRequire } from 'node:module'

const { FlowiseClient } = createRequire(process.cwd() + '/package.json')('flowise-sdk')
const [baseUrl, apiKey, chatflowId, first, second] = process.argv.slice(2)
const client = new FlowiseClient({ baseUrl, apiKey })
let chatId = ''
for await (const chunk of await client.createPrediction({ chatflowId, question: first, streaming: true })) {
    console.log(JSON.stringify(chunk))
    if (chunk.event === 'metadata') chatId = chunk.data.chatId
}
console.log(JSON.stringify(await client.createPrediction({ chatflowId, question: second, chatId })))
