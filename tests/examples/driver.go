// go run seed.go driver.go BASE_URL ROOM_ID CONTENT
package main

import "os"

func main() {
	if err := sendMessage(os.Args[2], os.Args[3]); err != nil {
		panic(err)
	}
}
